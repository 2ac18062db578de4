"""The service as `uv run -m dev` serves it: with a watchdog that logs what blocks the event loop.

A thread asks the event loop every few milliseconds to do nothing. Only a call that blocks the event
loop delays the answer.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pkgutil import resolve_name
from time import perf_counter
from traceback import extract_stack

import structlog
from quart import Quart

from . import PROJECT, SERVICE, follow

SOURCE = str(PROJECT / "src")

EVERY = 0.02
"""Seconds between two questions."""

LIMIT = 0.1
"""Seconds that the event loop may take to answer."""

log = structlog.stdlib.get_logger("dev")


def create_app() -> Quart:
    """Return the service with the watchdog. Browsers ask again for each static file."""
    # After SIGKILL, `uv run -m dev` cannot stop this process.
    parent = int(os.environ.get("DEV_PID", os.getppid()))
    threading.Thread(target=follow, args=(parent, signal.SIGKILL), daemon=True).start()

    factory: Callable[[], Quart] = resolve_name(SERVICE)
    app = factory()
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0

    @app.while_serving
    async def watched() -> AsyncGenerator[None, None]:
        arguments = (asyncio.get_running_loop(), threading.get_ident())
        threading.Thread(target=watch, args=arguments, daemon=True).start()
        yield

    return app


def watch(loop: asyncio.AbstractEventLoop, thread: int) -> None:
    """Log which line of the service blocks the event loop of a thread, and for how long."""
    while True:
        asked = perf_counter()
        time.sleep(EVERY)
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the event loop is closed
            return
        # A call into C may hold the GIL, so that this thread did not run either.
        if perf_counter() - asked < LIMIT and answered.wait(LIMIT):
            continue
        if line := current_line(thread):
            log.warning("event loop is blocked", line=line)
            answered.wait()
            log.warning("event loop was blocked", seconds=round(perf_counter() - asked, 2))


def current_line(thread: int) -> str | None:
    """Return the innermost line of the service that a thread runs, if it runs any."""
    for frame in reversed(extract_stack(sys._current_frames()[thread])):
        if frame.filename.startswith(SOURCE):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return None
