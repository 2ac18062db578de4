"""Blocking calls: they run in threads, which are limited, and the event loop stays free."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from threading import Event
from threading import enumerate as enumerate_threads

import pytest
from orders.core import blocking
from orders.core.errors import BackendUnavailable
from quart import Quart

from .load import assert_fair, served_under_load


@pytest.fixture
async def app(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Quart]:
    """Serve an app with two threads and short waits."""
    monkeypatch.setenv("BLOCKING_THREADS", "2")
    monkeypatch.setenv("BLOCKING_ACQUIRE_TIMEOUT", "0.15")
    app = create_app()
    async with app.app_context():
        yield app


@pytest.fixture
def release() -> Iterator[Event]:
    """Return what blocked calls wait for. They end with the test."""
    event = Event()
    yield event
    event.set()


def wait_for(event: Event) -> str:
    event.wait()
    return "done"


def fail_after(event: Event, _password: str) -> float:
    event.wait()
    return 1 / 0


@pytest.mark.usefixtures("app")
async def test_the_loop_stays_free_while_a_call_waits() -> None:
    turns = 0
    call = asyncio.create_task(blocking.run(time.sleep, 0.05))
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 5


@pytest.mark.usefixtures("app")
async def test_arguments_results_and_errors_pass() -> None:
    def divide(one: float, *, by: float) -> float:
        return one / by

    assert await blocking.run(divide, 6, by=3) == 2
    with pytest.raises(ZeroDivisionError):
        await blocking.run(divide, 6, by=0)
    # No coroutine can raise StopIteration: an error must come in its place, and not silence.
    with pytest.raises(RuntimeError):
        await blocking.run(next, iter(()))


@pytest.mark.usefixtures("app")
async def test_threads_see_the_context_of_the_caller() -> None:
    variable = ContextVar("variable", default="unset")
    variable.set("set")

    assert await blocking.run(variable.get) == "set"


@pytest.mark.usefixtures("app")
async def test_threads_are_limited() -> None:
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    await asyncio.gather(*(blocking.run(work) for _ in range(4)))

    assert most == 2


async def test_saturation_is_a_503(app: Quart, release: Event) -> None:
    @app.get("/wait")
    async def wait() -> str:
        return await blocking.run(wait_for, release)

    client = app.test_client()
    running = [asyncio.create_task(client.get("/wait")) for _ in range(2)]
    await asyncio.sleep(0.02)
    waiting = [asyncio.create_task(client.get("/wait")) for _ in range(2)]
    refused = await client.get("/wait")

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert [(await response).status_code for response in waiting] == [503, 503]
    release.set()
    assert [(await response).status_code for response in running] == [200, 200]


async def test_waiting_for_a_thread_is_fair(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOCKING_THREADS", "2")
    monkeypatch.setenv("BLOCKING_ACQUIRE_TIMEOUT", "5")

    async with create_app().app_context():
        served = await served_under_load(lambda: blocking.run(time.sleep, 0.001))

    assert_fair(served)


@pytest.mark.usefixtures("app")
async def test_a_cancelled_call_keeps_its_thread_until_it_ends(
    release: Event, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [asyncio.create_task(blocking.run(fail_after, release, "secret")) for _ in range(2)]
    await asyncio.sleep(0.02)
    for call in calls:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    with pytest.raises(BackendUnavailable):
        await blocking.run(str)
    assert "goes on without its request" in caplog.text
    assert "fail_after" in caplog.text
    assert "secret" not in caplog.text

    release.set()
    assert await blocking.run(str) == ""
    assert "ZeroDivisionError" in caplog.text


async def test_a_call_that_never_ends_does_not_hold_up_the_end(
    create_app: Callable[[], Quart], release: Event
) -> None:
    app = create_app()
    async with app.test_app(), app.app_context():
        call = asyncio.create_task(blocking.run(wait_for, release))
        await asyncio.sleep(0.02)
        call.cancel()
        started = time.perf_counter()

    assert time.perf_counter() - started < 1
    threads = [thread for thread in enumerate_threads() if thread.name == blocking.NAME]
    assert len(threads) == 1
    assert threads[0].daemon


async def test_outside_an_app_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="Not within an app context"):
        await blocking.run(str)
