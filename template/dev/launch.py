"""Starts a server in a folder of its own, on a port of its own, and waits until it is ready."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dev import supervisor
from dev.lock import try_lock
from dev.server import HOST, POLL_EVERY, CannotStart, Program, Server, is_free

CLAIM_TIMEOUT = supervisor.GRACE + 5.0
"""Seconds to wait for a server of an earlier run that is still being stopped."""

PORT_ATTEMPTS = 5


def launch(
    program: Callable[[int], Program],
    ready: Callable[[Server], None],
    log: IO[bytes],
    port: int | None,
) -> Server:
    """Start a server and wait until it is ready.

    program: how to run it on a given port. ready: raises an exception as long as the server is not
    ready. port: the one to use; else a free one is chosen, and another one when it is taken away
    before the server has it. Raises CannotStart.
    """
    if port is not None and not is_free(port):
        raise CannotStart(f"{program(port).title}: port {port} is taken")
    for attempt in range(1, PORT_ATTEMPTS + 1):
        chosen = port or free_port()
        server = Server(program(chosen), log)
        try:
            server.wait_until(ready)
        except BaseException as error:
            server.stop()
            collided = isinstance(error, CannotStart) and port is None and not is_free(chosen)
            if not collided or attempt == PORT_ATTEMPTS:
                raise
        else:
            break
    return server


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def claimed(log: Path, title: str) -> Iterator[IO[bytes]]:
    """Make the folder of the log and open the log, as the only one who uses the folder.

    The server gets the open file as its output, and the lock with it: a later start waits until
    the last of its processes has ended. Raises CannotStart when that takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + CLAIM_TIMEOUT
    with log.open("ab") as file:
        # Windows locks are not inherited, and hinder reading.
        while os.name == "posix" and not try_lock(file):
            if time.monotonic() > deadline:
                raise CannotStart(f"{title}: another process uses {log.parent}")
            time.sleep(POLL_EVERY)
        file.truncate(0)
        yield file
