"""Logs when the event loop is blocked: for how long, and by which line.

A thread asks the loop again and again to do nothing, which takes no time unless a call blocks it.
"""

import asyncio
import linecache
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from traceback import walk_stack

import structlog

SOURCE = str(Path(__file__).resolve().parent.parent / "src")

EVERY = 0.02
"""Seconds between two questions."""

LIMIT = 0.1
"""Seconds that the loop may take to answer."""

LONG = 2.0
"""Seconds after which a call is logged that has not ended yet, as it may never end."""

log = structlog.stdlib.get_logger("dev")


@contextmanager
def watching() -> Iterator[None]:
    """Watch the running loop for the length of the `with` block."""
    stop = threading.Event()
    arguments = (asyncio.get_running_loop(), threading.get_ident(), stop)
    watchdog = threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True)
    watchdog.start()
    try:
        yield
    finally:
        stop.set()


def _watch(loop: asyncio.AbstractEventLoop, thread: int, stop: threading.Event) -> None:
    asked = perf_counter()
    while not stop.wait(EVERY):
        # A call into C may keep Python to itself, so that this thread does not run either.
        overdue = perf_counter() - asked > LIMIT
        line = _line(thread) if overdue else None
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return
        if not answered.wait(LIMIT):
            line = _line(thread) or _line(thread, within="")
            if not answered.wait(LONG):
                _log("event loop is blocked", asked, line)
                answered.wait()
        if line:
            _log("event loop was blocked", asked, line)
        asked = perf_counter()


def _line(thread: int, within: str = SOURCE) -> str | None:
    """Return the line that a thread is at in the files within a folder, if it is at one."""
    for frame, line in walk_stack(sys._current_frames()[thread]):
        file = frame.f_code.co_filename
        if file.startswith(within):
            return f"{file}:{line}: {linecache.getline(file, line).strip()}"
    return None


def _log(event: str, since: float, line: str | None) -> None:
    log.warning(event, seconds=round(perf_counter() - since, 2), line=line)
