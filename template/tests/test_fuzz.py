"""Whatever clients send to whichever endpoint, yours included, the response is not a 5xx."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from quart import Quart
from werkzeug.utils import import_string

from dev import SERVICE

HOSTILE = ["-", "\0", "\ud800", "..", "%", "-1", str(2**31), str(2**63), str(2**64), "9" * 400]
"""Text that has harmed databases, parsers and file systems."""

import_string(SERVICE)  # so that its models are there

FIELDS = sorted(
    name
    for model in BaseModel.__subclasses__()
    if model.__module__.startswith(SERVICE.partition(".")[0])
    for name in model.model_fields
)
"""The names of the fields that endpoints take, so that some input gets past validation."""

texts = st.sampled_from(["a", "1", *HOSTILE]) | st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.just(2**64) | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=3
)
forms = [st.fixed_dictionaries(dict.fromkeys(FIELDS, kind)) for kind in (texts, scalars)]
documents = [kind.map(json.dumps).map(str.encode) for kind in (*forms, values)]
bodies = st.one_of(*documents, st.binary(max_size=50), st.just(b"[" * 100_000))


@pytest.fixture
def app(create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch) -> Quart:
    """Return an app that ends streams soon."""
    monkeypatch.setenv("STREAM_TIMEOUT", "0.1")
    return create_app()


def endpoints(app: Quart) -> Iterator[tuple[str, str]]:
    """Yield the method and the route of each endpoint."""
    for rule in app.url_map.iter_rules():
        if not rule.websocket:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule.rule


async def send(app: Quart, method: str, route: str, text: str, body: bytes) -> None:
    """Send a request with the text in the path and the query, and check the response."""
    value = quote(text.encode(errors="surrogatepass"), safe="")
    path = re.sub(r"<[^>]+>", lambda _: value, route)
    query = "&".join(f"{field}={value}" for field in FIELDS)
    request = getattr(app.test_client(), method.lower())
    headers = {"Content-Type": "application/json"}
    response = await request(f"{path}?{query}", data=body, headers=headers)
    assert response.status_code < 500, f"{method} {path} gets a {response.status_code}"
    if response.status_code >= 400:
        assert response.content_type == "application/problem+json"


async def test_no_path_or_query_gets_a_5xx(app: Quart) -> None:
    async with app.test_app():
        for method, route in endpoints(app):
            for text in HOSTILE:
                await send(app, method, route, text, b"{}")


# The same input in every run: a failure means that you changed something.
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # To explain a failure, Hypothesis would read files on the event loop.
    phases=[Phase.generate, Phase.shrink],
)
@given(data=st.data())
def fuzz(runner: asyncio.Runner, app: Quart, data: Any) -> None:
    taking_bodies = [each for each in endpoints(app) if each[0] in {"POST", "PUT", "PATCH"}]
    method, route = data.draw(st.sampled_from(taking_bodies or [("POST", "/unknown")]))
    runner.run(send(app, method, route, "1", data.draw(bodies)))


def test_no_body_gets_a_5xx(app: Quart) -> None:
    with asyncio.Runner() as runner:
        runner.run(app.startup())
        try:
            fuzz(runner, app)
        finally:
            runner.run(app.shutdown())
