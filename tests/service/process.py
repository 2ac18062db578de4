"""The service in a process of its own, run as in production, and raw clients of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from textwrap import indent
from typing import IO, Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Request, TextMessage

HOST = "127.0.0.1"

APP = """
import asyncio, hashlib, json, time

import structlog
from quart import Response, request, websocket

from orders.app import create_app as create
from orders.core import blocking

log = structlog.stdlib.get_logger(__name__)


def create_app():
    app = create()
{endpoints}
    return app
"""


class Process:
    """The service under uvicorn, with the options of the Dockerfile.

    endpoints: Python code that adds endpoints to `app`. options: more options of uvicorn.
    stderr: where all output goes, by default a file that `log()` reads. variables: the environment.
    """

    def __init__(
        self,
        folder: Path,
        endpoints: str = "",
        *options: str,
        stderr: IO[bytes] | int | None = None,
        wait: bool = True,
        **variables: str,
    ) -> None:
        self.port = free_port()
        self._log = folder / f"log-{self.port}"
        module = f"served_{self.port}"
        (folder / f"{module}.py").write_text(APP.format(endpoints=indent(endpoints, "    ")))
        command = [
            *(sys.executable, "-m", "uvicorn", "--factory", f"{module}:create_app"),
            *("--app-dir", str(folder), "--host", HOST, "--port", str(self.port)),
            *("--timeout-graceful-shutdown", "10", "--no-access-log", "--no-server-header"),
            *options,
        ]
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                command,
                stdout=log if stderr is None else stderr,
                stderr=log if stderr is None else stderr,
                env=os.environ | variables,
            )
        if wait:
            wait_until(lambda: self.popen.poll() is not None or listens(self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.wait()

    def ask(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the headers and the body of a response; gives up after 5 s."""
        with closing(HTTPConnection(HOST, self.port, timeout=5)) as connection:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def stop(self, within: float = 15) -> float:
        """Send SIGTERM, and return the seconds until the process has ended."""
        started = time.perf_counter()
        self.popen.send_signal(signal.SIGTERM)
        self.popen.wait(within)
        return time.perf_counter() - started

    def text(self) -> str:
        """Return the log as it is."""
        return self._log.read_text()

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """Return the lines of the log. event: those of one event."""
        # The last line may be incomplete.
        lines = [json.loads(line) for line in self.text().split("\n")[:-1]]
        return [line for line in lines if event in {"", line["event"]}]

    def memory(self) -> int:
        """Return the bytes of memory that the process uses."""
        pages = Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class WebSocket:
    """A WebSocket client that blocks, for 5 s at most."""

    def __init__(self, port: int, path: str, host: str = HOST, **headers: str) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=5)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        given = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        self._send(Request(host=host, target=path, extra_headers=given))

    def __enter__(self) -> Self:
        event = self.receive()
        assert isinstance(event, AcceptConnection), event
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _send(self, event: Event) -> None:
        self.socket.sendall(self._connection.send(event))

    def send(self, data: str) -> None:
        """Send a message."""
        self._send(TextMessage(data=data))

    def frame(self, data: str) -> bytes:
        """Return a message as bytes."""
        return self._connection.send(Message(data=data))

    def receive(self) -> Event:
        """Return the next event; raises EOFError when there is none."""
        while not self._events:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._connection.receive_data(data)
            self._events += self._connection.events()
        return self._events.pop(0)

    def closed_with(self) -> int:
        """Wait until the server closes, and return its code."""
        while not isinstance(event := self.receive(), CloseConnection):
            pass
        return event.code


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Return whether a server accepts connections at the port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex((HOST, port)) == 0


def wait_until(condition: Callable[[], object], seconds: float = 15) -> float:
    """Wait until the condition holds, and return how long that took."""
    started = time.perf_counter()
    while not condition():
        assert time.perf_counter() - started < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.perf_counter() - started
