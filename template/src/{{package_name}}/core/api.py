"""The API: JSON, validation and documentation, by quart-schema.

    @blueprint.post("")
    @validate_request(NewNote)
    @validate_response(Note, 201)
    async def create(data: NewNote) -> tuple[Note, int]:

The documentation is at /docs, and as an OpenAPI document at /openapi.json.
"""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from quart import Quart, Response, render_template_string, request, send_from_directory
from quart.json.provider import DefaultJSONProvider
from quart_schema import Info, OpenAPIProvider, QuartSchema, Server, hide
from quart_schema.conversion import model_schema
from quart_schema.validation import RequestSchemaValidationError
from werkzeug.routing import Rule

from . import PROJECT
from .errors import problem
from .settings import ServiceSettings

SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
"""The files of Swagger UI. Nothing else of that package is used."""

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<main id="docs"></main>
<noscript>This page needs JavaScript. See <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script nonce="{{ nonce }}">
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();
  SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true });
</script>
</html>
"""
"""Swagger UI. Its addresses are relative, so that it works behind a path prefix."""

T = TypeVar("T")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    return text


Text: TypeAlias = Annotated[
    str, AfterValidator(_without_nul), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
"""Text that every database can store. Some refuse the character NUL."""

Many: TypeAlias = Annotated[
    list[T], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]
"""A list in a query string. quart-schema refuses `list[T]` where the client sends one value."""


class Problem(BaseModel):
    """The body of an error."""

    title: str
    status: int
    detail: str | None
    errors: list[dict[str, str]] = []


PROBLEM = {
    "description": "An error (RFC 9457). For invalid input, `errors` names the fields.",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
}


def init_app(app: Quart, settings: ServiceSettings) -> None:
    """Add validation, JSON and the documentation to the app."""
    QuartSchema(
        app,
        info=Info(PROJECT["Name"], PROJECT["Version"], description=PROJECT["Summary"]),
        # Relative to the address of the document, so that it is right behind a path prefix, too.
        servers=[Server(url=".")],
        openapi_path=None,
        # With pydantic, a converter would be built for each response: 47 µs in place of 9.
        conversion_preference="msgspec",
        pydantic_dump_options={"by_alias": True},
        openapi_provider_class=Documentation,
    )
    app.json = Json(app)
    app.register_error_handler(RequestSchemaValidationError, _invalid_input)
    if settings.api_docs:
        _add_pages(app, PROJECT["Name"])


class Json(DefaultJSONProvider):
    """JSON by msgspec. Dates become ISO 8601; UUIDs and Decimals become text."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return msgspec.json.encode(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        try:
            return msgspec.json.decode(s)
        except RecursionError:
            raise ValueError("too deeply nested") from None

    def response(self, *args: Any, **kwargs: Any) -> Response:
        body = msgspec.json.encode(self._prepare_response_obj(args, kwargs))
        return Response(body, mimetype=self.mimetype)


async def _invalid_input(error: RequestSchemaValidationError) -> Response:
    """Answer 422 with the names of the invalid fields, or 415 if the body is not JSON."""
    cause = error.validation_error
    if not isinstance(cause, ValidationError):
        return problem(422, str(cause))
    found = cause.errors(include_url=False)
    if found[0]["input"] is None and not found[0]["loc"] and not request.is_json:
        return problem(415, "Send JSON, with Content-Type: application/json.")
    fields = [
        {
            "field": ".".join(str(part) for part in each["loc"]),
            "message": each["msg"].removeprefix("Value error, "),
        }
        for each in found
    ]
    return problem(422, "One or more fields are invalid.", errors=fields)


class Documentation(OpenAPIProvider):
    """quart-schema's OpenAPI document, with the errors, required parameters and distinct models."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._models: dict[str, Any] = {}

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe an endpoint. Two models of one name become two components."""
        paths, components = super().build_paths(rule)
        for operations in paths.values():
            for method, operation in operations.items():
                operation["operationId"] = f"{rule.endpoint}.{method}"
                operation.setdefault("tags", [rule.endpoint.partition(".")[0]])
                # Without @validate_response, what succeeds is not described.
                operation["responses"] = operation["responses"] or {"2XX": {"description": "OK"}}
                operation["responses"]["default"] = PROBLEM
                if "requestBody" in operation:
                    operation["requestBody"]["required"] = True
        described = json.dumps([paths, components])
        for name, schema in components.items():
            if self._models.setdefault(name, schema) != schema:
                other = f"{name}_{rule.endpoint.replace('.', '_')}"
                described = re.sub(rf'(?<=["/]){name}(?=")', other, described)
        paths, components = json.loads(described)
        return paths, components

    def build_querystring_parameters(self, model: Any) -> tuple[list[dict[str, Any]], Any]:
        """Describe a query string. quart-schema takes all parameters for optional."""
        parameters, components = super().build_querystring_parameters(model)
        required = model_schema(model, preference="msgspec").get("required", [])
        for parameter in parameters:
            parameter["required"] = parameter["name"] in required
        return parameters, components


def _add_pages(app: Quart, title: str) -> None:
    @cache
    def document() -> str:
        return app.json.dumps(app.extensions["QUART_SCHEMA"].openapi_provider.schema())

    @app.get("/openapi.json")
    @hide
    async def openapi() -> Response:
        """Return the OpenAPI document."""
        return Response(document(), content_type="application/json")

    @app.get("/docs")
    @hide
    async def docs() -> Response:
        """Show the OpenAPI document in Swagger UI."""
        nonce = token_urlsafe(16)
        policy = f"default-src 'self'; script-src 'self' 'nonce-{nonce}'; img-src 'self' data:"
        html = await render_template_string(PAGE, title=title, nonce=nonce)
        return Response(html, headers={"Content-Security-Policy": policy})

    @app.get("/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js'):name>")
    @hide
    async def swagger_ui(name: str) -> Response:
        """Return a file of Swagger UI."""
        return await send_from_directory(SWAGGER_UI, name)
