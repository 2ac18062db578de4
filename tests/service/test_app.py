"""The app: the deadline of handlers, the size of bodies, and what it leaves to the collector."""

import asyncio
import gc
from collections.abc import Callable

import pytest
from quart import Quart, request


async def test_a_slow_handler_is_cancelled_and_answered_with_504(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT", "0.05")
    app = create_app()
    cancelled = asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "done"

    async with app.test_app():
        response = await app.test_client().get("/slow")

    assert response.status_code == 504
    assert response.content_type == "application/problem+json"
    assert cancelled.is_set()


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
async def test_a_large_body_is_refused(
    headers: dict[str, str], create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BODY_SIZE", "100")
    app = create_app()

    @app.post("/upload")
    async def upload() -> str:
        return str(len(await request.get_data()))

    async with app.test_app():
        client = app.test_client()
        statuses = []
        for size in (100, 101):
            async with client.request("/upload", method="POST", headers=headers) as connection:
                await connection.send(b"x" * size)
                await connection.send_complete()
            statuses.append((await connection.as_response()).status_code)

    assert statuses == [200, 413]


@pytest.mark.usefixtures("client")
def test_what_was_loaded_at_startup_is_not_searched_for_garbage() -> None:
    assert gc.get_freeze_count() > 10_000
