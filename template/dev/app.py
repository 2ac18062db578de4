"""The service as `uv run -m dev` serves it. A watchdog logs what blocks the event loop."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator
from pkgutil import resolve_name
from time import perf_counter
from traceback import extract_stack

import structlog
from quart import Quart

from . import PROJECT, SERVICE, follow

SOURCE = str(PROJECT / "src")

LIMIT = 0.1
"""Seconds that the event loop may be blocked before the log says so."""

log = structlog.stdlib.get_logger("dev")


def create_app() -> Quart:
    """Return the service with the watchdog. Browsers ask again for each static file."""
    # After SIGKILL, `uv run -m dev` cannot stop this process.
    parent = int(os.environ.get("DEV_PID", os.getppid()))
    threading.Thread(target=follow, args=(parent, signal.SIGKILL), daemon=True).start()

    app: Quart = resolve_name(SERVICE)()
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
        asked, answered = perf_counter(), threading.Event()
        time.sleep(LIMIT / 5)
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the event loop is closed
            return
        # A call into C may hold the GIL, so that this thread does not run either.
        if perf_counter() - asked > LIMIT or not answered.wait(LIMIT):
            frames = extract_stack(sys._current_frames()[thread])
            if ours := [each for each in frames if each.filename.startswith(SOURCE)]:
                line = f"{ours[-1].filename}:{ours[-1].lineno}: {ours[-1].line}"
                log.warning("event loop is blocked", line=line)
                answered.wait()
                log.warning("event loop was blocked", seconds=round(perf_counter() - asked, 2))
