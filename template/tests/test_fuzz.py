"""Whatever clients send to whichever endpoint, yours included, the response is not a 5xx."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from quart import Quart
from quart_schema.validation import (
    QUART_SCHEMA_QUERYSTRING_ATTRIBUTE,
    QUART_SCHEMA_REQUEST_ATTRIBUTE,
)

TEXTS = ["", " ", "a\nb", "Ж", "-", "..", "%", "\0", "\ud800", "-1", str(2**63), "9" * 400]
"""Text that has harmed databases, parsers and file systems."""

VALUES: list[Any] = [*TEXTS, None, True, 0, -1, 2**31, 2**63, 2**64, 1e300, [], ["\0"], {"$ne": 1}]

NO_DOCUMENTS = [b"", b"{", b"\xff", b"[" * 100_000]

UUID = "12345678-1234-5678-1234-567812345678"


@pytest.fixture
def app(create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch) -> Quart:
    """Return an app that ends streams soon, and logs errors only."""
    monkeypatch.setenv("STREAM_TIMEOUT", "0.1")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    return create_app()


def documents(model: Any) -> Iterator[dict[str, Any]]:
    """Yield a document with each value in each field of a model, and all that it requires.

    A required field that is no text or number needs `Field(examples=[...])` for that.
    """
    fields = getattr(model, "model_fields", {})
    required = {
        field.alias or name: (field.examples or ["a" if field.annotation is str else 1])[0]
        for name, field in fields.items()
        if field.is_required()
    }
    names = [field.alias or name for name, field in fields.items()]
    for name in names or getattr(model, "__annotations__", []):
        for value in VALUES:
            yield required | {name: value}


def requests(app: Quart) -> Iterator[tuple[str, str, bytes]]:
    """Yield a method, a path with a query, and a body, many times for each endpoint."""
    for rule in app.url_map.iter_rules():
        path = re.sub("<.+?>", UUID if "<uuid" in rule.rule else "1", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            view = app.view_functions[rule.endpoint]
            view = getattr(getattr(view, "view_class", None), method.lower(), view)
            query_model = getattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None)
            body_model, _ = getattr(view, QUART_SCHEMA_REQUEST_ATTRIBUTE, (None, None))
            for text in TEXTS:
                part = quote(text, safe="", errors="surrogatepass")
                yield method, re.sub("<.+?>", part, rule.rule), b"{}"
            for query in documents(query_model):
                yield method, f"{path}?{urlencode(query, errors='surrogatepass')}", b"{}"
            if method != "GET":
                values = (*VALUES, *documents(body_model))
                for body in (*NO_DOCUMENTS, *(json.dumps(value).encode() for value in values)):
                    yield method, path, body


async def test_no_request_gets_a_5xx(app: Quart) -> None:
    found = []
    headers = {"Content-Type": "application/json"}
    client: Any = app.test_client()
    async with app.test_app():
        for method, path, body in requests(app):
            response = await client.open(path, method=method, data=body, headers=headers)
            if response.status_code >= 500:
                found.append(f"{method} {path} with {body!r:.99} gets a {response.status_code}")
            elif response.status_code >= 400:
                assert response.content_type == "application/problem+json", f"{method} {path}"
    advice = "Refuse such input with a 4xx, in the model or by abort():"
    assert not found, "\n".join([advice, *found[:20]])
