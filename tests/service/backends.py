"""The servers in `dev/`, for tests that kill and freeze them. Stand-ins get processes for that."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import dev
from orders.backends import BACKENDS

from .kinds import Kind, Server
from .process import HOST, free_port, listens, wait_until


class StandIn:
    """A kind of server that is a stand-in for a web service."""

    def __init__(self, module: Any) -> None:
        self.NAME = Path(module.__file__).stem
        self.VARIABLE: str = module.VARIABLE

    def start(self, directory: Path, *, durable: bool, port: int | None = None) -> Server:
        """Start it, and return it once it is ready."""
        return StandInProcess(self.NAME, port or free_port())

    def prepare(self, _url: str) -> None:
        """Do nothing: there is no data."""


class StandInProcess:
    """A stand-in in a process of its own."""

    def __init__(self, name: str, port: int) -> None:
        self.url, self.port = f"http://{HOST}:{port}", port
        program = (
            f"from aiohttp import web; from dev import {name}; "
            f"web.run_app({name}.application({self.url!r}), host={HOST!r}, port={port})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=dev.PROJECT, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: listens(port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    kill = stop

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)


def kinds() -> list[Kind]:
    """Return all kinds, in the order of BACKENDS."""
    found = [*getattr(dev, "SERVERS", ()), *map(StandIn, getattr(dev, "STAND_INS", ()))]
    order = [backend.name for backend in BACKENDS]
    return sorted(
        found, key=lambda kind: order.index({"upstream": "http"}.get(kind.NAME, kind.NAME))
    )


KINDS = kinds()
