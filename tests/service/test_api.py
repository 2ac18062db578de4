"""Validation, JSON and the documentation of the API."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from orders.core.api import Many, Text
from pydantic import BaseModel, Field, create_model
from quart import Quart
from quart.typing import TestClientProtocol as Client
from quart_schema import validate_querystring, validate_request, validate_response


class NewThing(BaseModel):
    name: Annotated[Text, Field(min_length=1)]
    size: int = Field(1, ge=1, le=10)


class Thing(NewThing):
    id: int


class Box(BaseModel):
    content: Thing


OtherThing = create_model("Thing", other=(str, ...))
"""Another model of the same name."""


class OtherBox(BaseModel):
    content: OtherThing  # type: ignore[valid-type]


class Selection(BaseModel):
    kind: str = Field(alias="type")
    tags: Many[str] = []
    numbers: Many[int] = []
    limit: int = Field(10, ge=1)


@pytest.fixture
def app(app: Quart) -> Quart:
    @app.post("/things")
    @validate_request(NewThing)
    @validate_response(Thing, 201)
    async def create(data: NewThing) -> tuple[Thing, int, dict[str, str]]:
        return Thing(id=1, name=data.name, size=data.size), 201, {"Location": "/things/1"}

    @app.get("/things")
    @validate_querystring(Selection)
    @validate_response(Selection)
    async def index(query_args: Selection) -> Selection:
        return query_args

    @app.get("/answers/<int:status>")
    @validate_response(Thing, 200)
    @validate_response(Thing, 202)
    async def answer(status: int) -> Any:
        return {"id": "no number"} if status == 200 else (Thing(id=1, name="a", size=1), status)

    @app.get("/boxes")
    @validate_response(Box)
    async def boxes() -> Any:
        return {"content": {"id": 1, "name": "a"}}

    @app.get("/other-boxes")
    @validate_response(OtherBox)
    async def other_boxes() -> Any:
        return {"content": {"other": "a"}}

    return app


async def post(client: Client, body: bytes, content_type: str = "application/json") -> Any:
    return await client.post("/things", data=body, headers={"Content-Type": content_type})


async def test_valid_input(client: Client) -> None:
    posted = await post(client, '{"name": "Zoë", "size": 2}'.encode())
    queried = await client.get("/things?type=Zo%C3%AB&limit=2&tags=a&tags=b&numbers=1")

    assert posted.status_code == 201
    assert posted.headers["Location"] == "/things/1"
    assert await posted.get_json() == {"name": "Zoë", "size": 2, "id": 1}
    selected = {"type": "Zoë", "limit": 2, "tags": ["a", "b"], "numbers": [1]}
    assert await queried.get_json() == selected


NOT_JSON = {
    "empty": b"",
    "cut": b"{",
    "trailing": b'{"name": "a"} trailing',
    "not a number": b'{"name": "a", "size": NaN}',
    "infinity": b'{"name": "a", "size": -Infinity}',
    "not UTF-8": b'{"name": "\xff"}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "deep": b"[" * 100_000,
}

INVALID = [
    (b"null", ""),
    (b"[]", ""),
    (b'"text"', ""),
    (b"{}", "name"),
    (b'{"name": 1}', "name"),
    (b'{"name": ""}', "name"),
    (b'{"name": "a\\u0000b"}', "name"),
    (b'{"name": "a", "size": "large"}', "size"),
    (b'{"name": "a", "size": 99999999999999999999}', "size"),
]


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
async def test_a_body_that_is_not_json(body: bytes, client: Client) -> None:
    response = await post(client, body)

    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert "detail" in await response.get_json(force=True)


@pytest.mark.parametrize("number", [b"9" * 10_000, b"1e400", b"-1e-400", b"0." + b"1" * 10_000])
async def test_an_odd_number_does_no_harm(number: bytes, client: Client) -> None:
    response = await post(client, b'{"name": "a", "size": ' + number + b"}")

    assert response.status_code in {400, 422}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_is_not_declared_as_json(content_type: str, client: Client) -> None:
    response = await post(client, b'{"name": "a"}', content_type)

    assert response.status_code == 415
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(("body", "field"), INVALID)
async def test_an_invalid_field_is_named(body: bytes, field: str, client: Client) -> None:
    response = await post(client, body)

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    problem = await response.get_json(force=True)
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0]["message"]


async def test_an_invalid_query_is_named(client: Client) -> None:
    response = await client.get("/things?limit=0&numbers=a&numbers=1&unknown=1")

    assert response.status_code == 422
    problem = await response.get_json(force=True)
    assert [error["field"] for error in problem["errors"]] == ["type", "numbers.0", "limit"]


async def test_responses_are_as_declared(client: Client) -> None:
    assert (await client.get("/answers/202")).status_code == 202
    assert (await client.get("/answers/200")).status_code == 500


async def test_json_has_dates_and_numbers(app: Quart, client: Client) -> None:
    @app.get("/all")
    async def everything() -> dict[str, object]:
        return {
            "z": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "date": date(2026, 1, 2),
            "uuid": UUID("12345678-1234-5678-1234-567812345678"),
            "decimal": Decimal("0.10"),
            "text": "Zoë",
        }

    response = await client.get("/all")

    assert response.mimetype == "application/json"
    assert await response.get_data(as_text=True) == (
        '{"z":"2026-01-02T03:04:05Z","date":"2026-01-02",'
        '"uuid":"12345678-1234-5678-1234-567812345678","decimal":"0.10","text":"Zoë"}'
    )


async def document_of(client: Client) -> Any:
    response = await client.get("/openapi.json")
    assert response.content_type == "application/json"
    return await response.get_json()


@dataclass
class Window:
    begin: int
    length: int = 1


class Struct(msgspec.Struct):
    begin: int
    length: int = 1


@pytest.mark.parametrize("model", [Window, Struct])
async def test_a_query_that_is_no_pydantic_model_is_described(model: type, app: Quart) -> None:
    @app.get("/windows")
    @validate_querystring(model)
    async def windows(query_args: Window | Struct) -> dict[str, int]:
        return {"end": query_args.begin + query_args.length}

    async with app.test_app():
        client = app.test_client()
        document = await document_of(client)
        assert await (await client.get("/windows?begin=2")).get_json() == {"end": 3}
        assert (await client.get("/windows")).status_code == 422

    parameters = document["paths"]["/windows"]["get"]["parameters"]
    assert {each["name"]: each["required"] for each in parameters} == {
        "begin": True,
        "length": False,
    }


async def test_every_endpoint_is_described(app: Quart, client: Client) -> None:
    document = await document_of(client)

    routes = {
        re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule != "/" and not rule.rule.startswith(("/docs", "/openapi.json"))
    }
    assert {"/health/live", "/health/ready", "/things"} <= routes
    assert set(document["paths"]) == routes


async def test_errors_and_parameters_are_described(client: Client) -> None:
    document = await document_of(client)
    created = document["paths"]["/things"]["post"]
    listed = document["paths"]["/things"]["get"]

    assert set(created["responses"]) == {"201", "default"}
    problem = created["responses"]["default"]["content"]["application/problem+json"]["schema"]
    assert {"title", "status", "detail", "errors"} <= set(problem["properties"])
    assert created["requestBody"]["required"]
    assert [(p["name"], p["required"]) for p in listed["parameters"]] == [
        ("type", True),
        ("tags", False),
        ("numbers", False),
        ("limit", False),
    ]


async def test_two_models_of_one_name_are_both_described(client: Client) -> None:
    document = await document_of(client)
    schemas = document["components"]["schemas"]

    def content_of(path: str) -> set[str]:
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        box = content["application/json"]["schema"]
        name = box["properties"]["content"]["$ref"].rpartition("/")[2]
        return set(schemas[name]["properties"])

    assert content_of("/boxes") == {"id", "name", "size"}
    assert content_of("/other-boxes") == {"other"}
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in schemas


async def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    response = await client.get("/docs")

    html = await response.get_data(as_text=True)
    links = [
        link for link in re.findall(r'(?:href|src|url: )="?([^">]+)"', html) if ":" not in link
    ]
    assert response.status_code == 200
    assert {"docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "openapi.json"} <= set(links)
    for link in links:
        assert (await client.get(f"/{link}")).status_code == 200, link
    assert "//" not in html
    policy = response.headers["Content-Security-Policy"]
    (nonce,) = re.findall(r"<script nonce=\"([^\"]+)\">", html)
    assert f"'nonce-{nonce}'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in html
    again = await client.get("/docs")
    assert nonce not in await again.get_data(as_text=True)


async def test_only_two_files_of_swagger_ui_are_served(client: Client) -> None:
    for path in ("index.html", "../package.json", "%2e%2e/package.json", "swagger-ui.css/"):
        assert (await client.get(f"/docs/{path}")).status_code == 404, path
