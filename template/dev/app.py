"""The service as `uv run -m dev` serves it: with a watchdog that logs what blocks the event loop.

A thread asks the event loop every few milliseconds to do nothing. Only a call that blocks the event
loop delays the answer.
"""

import asyncio
import linecache
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pkgutil import resolve_name
from time import perf_counter
from traceback import walk_stack

import structlog
from quart import Quart

from . import PROJECT, SERVICE, follow

SOURCE = str(PROJECT / "src")

EVERY = 0.02
"""Seconds between two questions."""

LIMIT = 0.1
"""Seconds that the event loop may take to answer."""

LONG = 2.0
"""Seconds after which a call is logged even though it has not ended."""

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
    """Log for how long the event loop of a thread is blocked, and by which line."""
    while True:
        asked = perf_counter()
        time.sleep(EVERY)
        # A call into C may hold the GIL, so that this thread does not run either.
        overdue = perf_counter() - asked > LIMIT
        line = current_line(thread) if overdue else None
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the event loop is closed
            return
        if not answered.wait(LIMIT):
            line = current_line(thread) or current_line(thread, within="")
            if not answered.wait(LONG):
                report("event loop is blocked", asked, line)
                answered.wait()
        if line:
            report("event loop was blocked", asked, line)


def current_line(thread: int, within: str = SOURCE) -> str | None:
    """Return the innermost line that a thread runs in files of a folder, if it runs any."""
    for frame, line in walk_stack(sys._current_frames()[thread]):
        file = frame.f_code.co_filename
        if file.startswith(within):
            return f"{file}:{line}: {linecache.getline(file, line).strip()}"
    return None


def report(event: str, since: float, line: str | None) -> None:
    """Log an event with the seconds since a time of `perf_counter()`."""
    log.warning(event, seconds=round(perf_counter() - since, 2), line=line)
