"""What is sent, where to, and what happens when that fails."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TypeAlias

import pytest
from orders.core.settings import InvalidSettings
from orders.tracing import telemetry
from quart import Quart

from ..process import Process

Collector: TypeAlias = tuple[str, dict[str, bytes]]

BROKEN = """
from opentelemetry import trace

@app.get("/broken")
async def broken():
    with trace.get_tracer("mine").start_as_current_span("look up"):
        raise LookupError("quoted")
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run a collector; yields its address, and what it gets, by path."""
    got: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got[self.path] = got.get(self.path, b"") + body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


@pytest.mark.parametrize(
    ("variables", "name", "version"),
    [
        ({}, rb"orders", rb"0\.1\.0"),
        (
            {
                "OTEL_SERVICE_NAME": "of-the-test",
                "OTEL_RESOURCE_ATTRIBUTES": "service.version=abc123",
            },
            rb"of-the-test",
            rb"abc123",
        ),
    ],
)
def test_sigterm_sends_what_is_left(
    variables: dict[str, str],
    name: bytes,
    version: bytes,
    serve: Callable[..., Process],
    collector: Collector,
) -> None:
    url, got = collector
    with serve(BROKEN, OTEL_EXPORTER_OTLP_ENDPOINT=url, **variables) as process:
        process.ask("/broken")
        process.stop()

    for body in (got["/v1/traces"], got["/v1/metrics"]):
        assert re.search(rb"service\.name.{1,6}" + name, body, re.DOTALL)
        assert re.search(rb"service\.version.{1,6}" + version, body, re.DOTALL)
    assert b"GET /broken" in got["/v1/traces"]
    assert b"LookupError" in got["/v1/traces"]
    assert b"quoted" not in got["/v1/traces"]
    assert b"http.server.request.duration" in got["/v1/metrics"]
    assert b"response.body.size" not in got["/v1/metrics"]


def test_a_collector_that_hangs_does_not_hold_up_the_service(
    serve: Callable[..., Process],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serve(OTEL_EXPORTER_OTLP_ENDPOINT=url) as process:
            status, _, _ = process.ask("/nothing")
            # Ctrl-C: after SIGTERM, uvicorn ends the process before Python cleans up.
            started = time.perf_counter()
            process.popen.send_signal(signal.SIGINT)
            process.popen.wait(10)
            took = time.perf_counter() - started

    assert status == 404
    assert took < 3


@pytest.mark.parametrize(
    ("variable", "traced", "measured"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", True, True),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", True, False),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", False, True),
    ],
)
def test_each_endpoint_switches_on_what_it_is_for(
    variable: str,
    traced: bool,
    measured: bool,
    create_app: Callable[[], Quart],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[dict[str, bool]] = []
    monkeypatch.setattr(telemetry, "init_app", lambda _, **options: started.append(options))
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    create_app()
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    create_app()

    assert started == [{"traced": traced, "measured": measured}]


@pytest.mark.usefixtures("create_app")
def test_without_an_endpoint_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    code = "import sys; from orders.app import create_app; create_app(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    imported = run.stdout.split()
    assert "orders.tracing" in imported
    assert "orders.tracing.telemetry" not in imported


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "somebody:secret@localhost"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://somebody:secret@localhost"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://somebody:secret@[localhost"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ],
)
def test_a_wrong_variable_stops_the_start(
    variable: str, value: str, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSettings, match=rf"\A{variable}: ") as stopped:
        create_app()

    assert "secret" not in str(stopped.value)
