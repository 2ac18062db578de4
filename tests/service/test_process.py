"""The service as a process: how it ends, and what clients may take from it."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from threading import Thread

import pytest

from .process import HOST, Process, WebSocket, wait_until

ENDPOINTS = """
@app.get("/sleep/<float:seconds>")
async def sleep(seconds):
    await asyncio.sleep(seconds)
    return "done"

@app.get("/feed")
async def feed():
    async def parts():
        while True:
            yield b"data: 1\\n\\n"
            await asyncio.sleep(0.05)
    return Response(parts(), content_type="text/event-stream")

@app.websocket("/echo")
async def echo():
    while True:
        await websocket.send(await websocket.receive())

@app.websocket("/busy")
async def busy():
    await websocket.accept()
    await asyncio.sleep(60)

@app.get("/bound")
async def bound():
    structlog.contextvars.bind_contextvars(customer=1)
    return "bound"

@app.post("/length")
async def length():
    return str(len(await request.get_data()))
"""


VARIABLES = {
    "MAX_HEADER_SIZE": "10000",
    "REQUEST_TIMEOUT": "1",
    "TRUSTED_HOSTS": "good.example, 127.0.0.1",
}


def test_sigterm_lets_requests_finish_and_tells_streams(serve: Callable[..., Process]) -> None:
    process = serve(ENDPOINTS)
    idle = HTTPConnection(HOST, process.port)
    idle.request("GET", "/health/live")
    idle.getresponse().read()
    events = HTTPConnection(HOST, process.port, timeout=5)
    events.request("GET", "/feed")
    stream = events.getresponse()
    assert stream.readline() == b"data: 1\n"
    answers: list[tuple[int, dict[str, str], bytes]] = []
    asking = Thread(target=lambda: answers.append(process.ask("/sleep/0.8")))
    asking.start()
    with WebSocket(process.port, "/echo?token=secret") as client:
        client.send("hello")
        client.receive()
        time.sleep(0.3)

        seconds = process.stop()

        assert client.closed_with() == 1012
    # Without its last part, http.client would raise IncompleteRead.
    assert stream.read().endswith(b"data: 1\n\n")
    asking.join()
    idle.close()
    events.close()

    assert answers[0][0] == 200
    assert answers[0][2] == b"done"
    assert 0.5 < seconds < 2
    assert process.popen.returncode in {-15, 143}
    (ended,) = (line for line in process.log("request") if line["route"] == "/feed")
    assert (ended["status"], ended["ended"]) == (200, "shutdown")
    assert 200 < ended["duration_ms"] < 800
    (line,) = process.log("websocket")
    assert (line["status"], line["ended"], line["route"]) == (101, "shutdown", "/echo")
    assert process.log()[-1]["event"].startswith("Finished server process")
    assert not [line for line in process.log() if line["level"] in {"error", "warning"}]
    assert "Traceback" not in process.text()
    assert "secret" not in process.text()


def test_a_stream_and_a_websocket_end_at_their_limit(serve: Callable[..., Process]) -> None:
    process = serve(ENDPOINTS, STREAM_TIMEOUT="0.5")
    with WebSocket(process.port, "/echo") as client:
        with pytest.raises(IncompleteRead):
            process.ask("/feed")
        assert client.closed_with() == 1001

    assert process.ask("/health/live")[0] == 200
    wait_until(lambda: process.log("websocket"))
    assert process.log("websocket")[0]["ended"] == "timeout"
    assert process.log("request")[0]["ended"] == "timeout"
    assert "Traceback" not in process.text()


def test_a_handshake_that_is_refused_gets_a_problem(process: Process) -> None:
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="

    for host, path, status in [("evil.test", "/echo", 400), ("good.example", "/missing", 404)]:
        given, headers, body = process.ask(path, Host=host, **handshake)
        assert given == status
        assert headers["content-type"] == "application/problem+json"
        assert len(headers["x-request-id"]) == 32
        assert json.loads(body)["status"] == status


def test_a_flood_of_websocket_messages_is_bounded(process: Process) -> None:
    """The handler is busy: the client has to wait, and the memory stays."""
    with WebSocket(process.port, "/busy") as client:
        frame = client.frame("x" * 1_000_000)
        before = process.memory()
        client.socket.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 300:
                client.socket.sendall(frame)
                sent += 1
        assert process.memory() - before < 100_000_000
        assert process.ask("/health/live")[0] == 200


def receive(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection, within 5 s."""
    received = b""
    connection.settimeout(5)
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            return received
        received += data


def test_headers_without_end_are_refused(process: Process) -> None:
    for sent in (b"GET / HTTP/1.1\r\nHost: good.example\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\nX"):
        with socket.create_connection((HOST, process.port)) as connection:
            connection.sendall(sent)
            with pytest.raises(ConnectionError):
                for _ in range(5000):
                    connection.sendall(b"x" * 10_000)
            connection.close()
    with socket.create_connection((HOST, process.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\nX: " + b"x" * 11_000)
        answer = receive(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert process.ask("/health/live", X="x" * 9000)[0] == 200
    assert process.ask("/health/live", X="x" * 11_000)[0] == 431
    assert "Traceback" not in process.text()


def test_large_bodies_do_not_count_as_headers(process: Process) -> None:
    connection = HTTPConnection(HOST, process.port)
    for _ in range(3):
        connection.request("POST", "/length", body=b"x" * 500_000)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"500000")
    connection.close()


SLOW = {
    "nothing": b"",
    "a part of the headers": b"POST /length HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    "a part of the body": b"POST /length HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx",
}


def test_slow_clients_lose_their_connection(process: Process) -> None:
    started = time.perf_counter()
    connections = [socket.create_connection((HOST, process.port)) for _ in SLOW]
    for connection, sent in zip(connections, SLOW.values(), strict=True):
        connection.sendall(sent)

    def drip() -> None:
        for _ in range(40):
            time.sleep(0.1)
            try:
                connections[1].sendall(b"x")
            except OSError:
                return

    dripping = Thread(target=drip)
    dripping.start()
    answers = [receive(connection) for connection in connections]
    seconds = time.perf_counter() - started
    dripping.join()

    for connection in connections:
        connection.close()
    assert seconds < 4
    assert [answer.partition(b"\r\n")[0] for answer in answers[:2]] == [b"", b""]
    assert answers[2] == b"" or answers[2].startswith((b"HTTP/1.1 504", b"HTTP/1.1 408"))
    assert process.ask("/health/live")[0] == 200


def test_pipelined_requests_have_their_own_context(process: Process) -> None:
    """uvicorn begins the second one in the context of the first one."""
    with socket.create_connection((HOST, process.port)) as connection:
        request = b"GET /%s HTTP/1.1\r\nHost: good.example\r\nConnection: %s\r\n\r\n"
        connection.sendall(
            request % (b"bound", b"keep-alive") + request % (b"health/live", b"close")
        )
        assert receive(connection).count(b"HTTP/1.1 200 ") == 2

    routes: list[str] = []

    def both_are_logged() -> bool:
        routes[:] = [str(line["route"]) for line in process.log("request")]
        return "/bound" in routes[:-1]

    wait_until(both_are_logged)
    position = routes.index("/bound")
    first, second = process.log("request")[position : position + 2]
    assert second["route"] == "/health/live"
    assert first["request_id"] != second["request_id"]
    assert "customer" not in second


def test_pages_work_behind_a_prefix(serve: Callable[..., Process]) -> None:
    """A proxy takes /orders away; `--root-path` says so."""
    process = serve("", "--root-path", "/orders", TRUSTED_HOSTS="good.example")

    assert process.ask("/health/live")[0] == 200
    status, _, page = process.ask("/docs", Host="good.example")
    assert status == 200
    assert b'href="/' not in page
    assert b'src="/' not in page
    status, _, document = process.ask("/openapi.json", Host="good.example")
    assert status == 200
    assert json.loads(document)["servers"] == [{"url": "."}]


LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "orders.core.logs.formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {"uvicorn": {"handlers": ["stderr"], "level": "INFO"}},
}
"""As in the guide."""


def test_workers(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Their parent logs in the same format, replaces a worker that is killed, and ends all."""
    config = tmp_path / "logging.json"
    config.write_text(json.dumps(LOG_CONFIG))
    process = serve(ENDPOINTS, "--workers", "2", "--log-config", str(config))

    def started() -> list[int]:
        events = [str(line["event"]) for line in process.log()]
        return [int(re.sub(r"\D", "", event)) for event in events if "server process" in event]

    wait_until(lambda: len(process.log("Application startup complete.")) == 2)
    first, second = started()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(process.log("Application startup complete.")) == 3)
    assert {process.ask("/health/live")[0] for _ in range(20)} == {200}

    assert process.stop() < 5
    events = [line["event"] for line in process.log()]
    assert any(event.startswith("Started parent process") for event in events)
    assert events[-1].startswith("Stopping parent process")
    for worker in {second, *started()} - {first}:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
