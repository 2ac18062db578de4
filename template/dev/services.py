"""Starts the servers that are not configured, side by side, and stops them again."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dev import SERVERS
from dev.server import DevServer, Server

Item = TypeVar("Item")


def configured(kind: DevServer) -> str | None:
    """Return the URL that the environment holds for a kind of server, if any."""
    return os.environ.get(kind.VARIABLE) or None


@contextmanager
def running(
    directory: Path, *, durable: bool, report: Callable[[str], None] = lambda _line: None
) -> Iterator[dict[str, str]]:
    """Lend the URLs of all servers, by environment variable, and start those not configured.

    directory: where their data goes. durable: keep data safe, at the price of speed. report: gets
    a line for people about each server that begins to start or is ready. All servers started here
    are stopped at the end of the `with` block. Raises CannotStart, when none is left running.
    """
    urls: dict[str, str] = {}
    started: list[Server] = []

    def start(kind: DevServer) -> None:
        folder = directory / kind.NAME
        first = durable and not folder.exists()
        report(f"{kind.TITLE}: starting{' for the first time' if first else ''}")
        begin = time.monotonic()
        server = kind.start(folder, durable=durable)
        started.append(server)
        urls[kind.VARIABLE] = server.url
        report(f"{kind.TITLE}: ready after {time.monotonic() - begin:.1f} s")

    missing = []
    for kind in SERVERS:
        if url := configured(kind):
            report(f"{kind.TITLE}: using {kind.VARIABLE}")
            urls[kind.VARIABLE] = url
        else:
            missing.append(kind)
    try:
        _side_by_side(start, missing)
        yield {kind.VARIABLE: urls[kind.VARIABLE] for kind in SERVERS}
    finally:
        _side_by_side(Server.stop, started)


def _side_by_side(action: Callable[[Item], None], items: list[Item]) -> None:
    """Do something with all items at once; raises the first error when all are done."""
    with ThreadPoolExecutor(max_workers=max(len(items), 1)) as pool:
        for outcome in [pool.submit(action, item) for item in items]:
            outcome.result()
