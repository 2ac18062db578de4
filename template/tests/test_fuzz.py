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

TEXTS = ["", "-", "\0", "\ud800", "..", "%", "-1", str(2**31), str(2**63), str(2**64), "9" * 400]
"""Text that has harmed databases, parsers and file systems."""

VALUES: list[Any] = [*TEXTS, None, True, -1, 2**31, 2**63, 2**64, 1e300, [], [[]], {"$ne": ""}]

NO_DOCUMENTS = [b"", b"{", b"\xff", b"[" * 100_000]


@pytest.fixture
def app(create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch) -> Quart:
    """Return an app that ends streams soon."""
    monkeypatch.setenv("STREAM_TIMEOUT", "0.1")
    return create_app()


def documents(model: Any) -> Iterator[dict[str, Any]]:
    """Yield a document with each value in each field of a model. Its other fields may be valid."""
    fields = getattr(model, "model_fields", {})
    valid = {name: "a" if field.annotation is str else 1 for name, field in fields.items()}
    for name in valid:
        for value in VALUES:
            yield valid | {name: value}


def requests(app: Quart) -> Iterator[tuple[str, str, bytes]]:
    """Yield a method, a path with a query, and a body, many times for each endpoint."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        query_model = getattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None)
        body_model, _ = getattr(view, QUART_SCHEMA_REQUEST_ATTRIBUTE, (None, None))
        values = [*VALUES, *documents(body_model)]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            for text in TEXTS:
                part = quote(text, safe="", errors="surrogatepass")
                yield method, re.sub("<.+?>", part, rule.rule), b"{}"
            path = re.sub("<.+?>", "1", rule.rule)
            for query in documents(query_model):
                yield method, f"{path}?{urlencode(query, errors='surrogatepass')}", b"{}"
            if method in {"POST", "PUT", "PATCH"}:
                for body in (*NO_DOCUMENTS, *(json.dumps(value).encode() for value in values)):
                    yield method, path, body


async def test_no_request_gets_a_5xx(app: Quart) -> None:
    async with app.test_app():
        for method, path, body in requests(app):
            call = getattr(app.test_client(), method.lower())
            response = await call(path, data=body, headers={"Content-Type": "application/json"})
            assert response.status_code < 500, f"{method} {path} {body!r:.200}"
            if response.status_code >= 400:
                assert response.content_type == "application/problem+json"
