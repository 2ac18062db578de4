"""The log: one line per request, and one ID that joins all lines of a request."""

import asyncio
import fcntl
import json
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable

import pytest
import structlog
from orders.core import logs
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .conftest import Lines
from .process import Process, wait_until

Logged = Callable[[], Awaitable[Lines]]


async def test_one_line_per_request(client: Client, logged: Logged) -> None:
    response = await client.get("/health/live?secret=1")

    (line,) = await logged()
    assert isinstance(line.pop("duration_ms"), float)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "orders.core.access",
        "method": "GET",
        "route": "/health/live",
        "status": 200,
        "request_id": response.headers["X-Request-ID"],
    }


async def test_a_request_without_a_route_shows_its_path(client: Client, logged: Logged) -> None:
    await client.get('/no/such"thing%0A?secret=1')
    await client.delete("/health/live")
    await client.get("/" + "x" * 1000)

    unknown, wrong_method, long = await logged()
    assert (unknown["status"], unknown["path"]) == (404, '/no/such"thing\n')
    assert (wrong_method["status"], wrong_method["path"]) == (405, "/health/live")
    assert (long["status"], long["path"]) == (404, "/" + "x" * 199)
    assert unknown["route"] is wrong_method["route"] is None


async def test_a_harmless_request_id_is_used(client: Client) -> None:
    response = await client.get("/health/live", headers={"X-Request-ID": "abc-123"})

    assert response.headers.getlist("X-Request-ID") == ["abc-123"]


async def test_a_harmful_request_id_is_replaced(client: Client) -> None:
    for given in ("", "x" * 65, "a b", '"}'):
        response = await client.get("/health/live", headers={"X-Request-ID": given})
        assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])


async def test_every_line_of_a_request_has_its_id(app: Quart, logged: Logged) -> None:
    @app.get("/talkative")
    async def talkative() -> str:
        structlog.stdlib.get_logger("mine").info("structured", note_id=1)
        logging.getLogger("theirs").warning("plain %s", "text")
        return logs.current_request_id()

    async with app.test_app():
        response = await app.test_client().get("/talkative")

    request_id = await response.get_data(as_text=True)
    lines = [line for line in await logged() if line["logger"] in {"mine", "theirs"}]
    assert [line["event"] for line in lines] == ["structured", "plain text"]
    assert [line["request_id"] for line in lines] == [request_id, request_id]
    assert lines[0]["note_id"] == 1


async def test_an_error_is_one_line_with_its_traceback(app: Quart, logged: Logged) -> None:
    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("it is\nbroken")

    async with app.test_app():
        response = await app.test_client().get("/broken")

    (line,) = (line for line in await logged() if line["level"] == "error")
    assert "RuntimeError: it is\nbroken" in line["exception"]
    assert line["request_id"] == response.headers["X-Request-ID"]


async def test_the_level_decides_what_is_logged(
    create_app: Callable[[], Quart], logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    app = create_app()
    async with app.test_app():
        await app.test_client().get("/health/live")
        structlog.stdlib.get_logger("mine").info("too quiet")
        logging.getLogger("theirs").warning("loud enough")

    assert [line["event"] for line in await logged()] == ["loud enough"]


async def test_people_can_read_the_log(
    create_app: Callable[[], Quart],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "console")
    app = create_app()
    async with app.test_app():
        await app.test_client().get("/health/live")

    await asyncio.to_thread(logs.background_handler().flush)
    assert re.search(r"request .*route.*/health/live", capsys.readouterr().err)


async def test_values_that_json_does_not_have_are_logged(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        structlog.stdlib.get_logger("mine").info(
            "odd", error=ValueError("a"), half="\ud800", n=1e400
        )

    (line,) = await logged()
    assert line["event"] == "odd"
    assert "ValueError" in line["error"]


async def test_a_level_above_info_leaves_out_requests(
    create_app: Callable[[], Quart], logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    app = create_app()
    async with app.test_app():
        await app.test_client().get("/health/live")
    assert await logged() == []


TALKATIVE = """
@app.after_serving
async def last():
    for number in range(3000):
        log.info("last", number=number)

@app.get("/lines/<int:count>")
async def lines(count):
    for number in range(count):
        log.info("line", number=number)
    return "done"
"""


WRONG = """
import logging
import structlog

class Unspeakable:
    def __repr__(self):
        raise ValueError

endless = []
endless.append(endless)

@app.get("/wrong/<int:number>")
async def wrong(number):
    if number == 0:
        logging.getLogger("mine").warning("%d items", "many")
    else:
        structlog.stdlib.get_logger("mine").info("saved", row=[Unspeakable(), endless][number - 1])
    return "done"
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_that_cannot_be_formatted_fails_nothing(
    log_format: str, serve: Callable[..., Process]
) -> None:
    process = serve(WRONG, LOG_FORMAT=log_format)

    for number in range(3):
        assert process.ask(f"/wrong/{number}")[0] == 200
    process.stop()

    assert "a line of mine has no format: TypeError" in process.text()
    if log_format == "json":
        first, second = (line["row"] for line in process.log("saved"))
        assert "Unspeakable" in first
        assert second == "<class 'list'>"


FORKING = """
import asyncio
import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

@app.get("/fork")
async def fork():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        for text in ("one", "two"):
            await asyncio.wrap_future(pool.submit(logging.getLogger("child").warning, text))
        await asyncio.sleep(0.2)
    return "done"
"""


def test_a_forked_child_logs(serve: Callable[..., Process]) -> None:
    process = serve(FORKING)

    assert process.ask("/fork")[0] == 200
    process.stop()

    lines = [line["event"] for line in process.log() if line["logger"] == "child"]
    assert lines == ["one", "two"]


def test_a_log_that_nobody_reads_stops_nothing(serve: Callable[..., Process]) -> None:
    """Requests go on, the lines that do not fit are counted, and SIGTERM ends the process."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    process = serve(TALKATIVE, stderr=writer)
    os.close(writer)

    for _ in range(200):
        assert process.ask("/health/live")[0] == 200
    assert process.ask(f"/lines/{logs.QUEUE_SIZE}")[0] == 200

    read: list[bytes] = []

    def read_all() -> None:
        with os.fdopen(reader, "rb") as file:
            read.extend(file)

    thread = threading.Thread(target=read_all)
    thread.start()
    wait_until(lambda: len(read) > logs.QUEUE_SIZE)
    process.stop()
    thread.join()
    lines = [json.loads(line) for line in read]
    dropped = sum(
        int(line["event"].split()[0]) for line in lines if "were dropped" in line["event"]
    )
    written = [line for line in lines if line["event"] in {"line", "request"}]
    assert dropped > 0
    assert len(written) + dropped == logs.QUEUE_SIZE + 201


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(serve: Callable[..., Process]) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    process = serve(TALKATIVE, stderr=writer)
    os.close(writer)
    assert process.ask("/lines/1000")[0] == 200

    assert process.stop() < 3
    os.close(reader)


def test_the_log_of_a_process_is_complete(serve: Callable[..., Process]) -> None:
    """From the first to the last line, the server's own lines included, in one format."""
    process = serve(TALKATIVE, "--access-log")
    assert process.ask("/lines/5000?token=secret")[0] == 200
    process.stop()

    events = [line["event"] for line in process.log()]
    assert events[0].startswith("Started server process")
    assert events.count("line") == 5000
    assert events.count("last") == 3000
    assert events.count("request") == 1
    assert "Application shutdown complete." in events
    assert events[-1].startswith("Finished server process")
    assert "secret" not in process.text()
