"""Structured logs: one line per event, each with the ID of its request.

    log = structlog.stdlib.get_logger(__name__)
    log.info("note created", note_id=note.id)

Loggers of the standard library, such as the server's, write the same format. A thread writes the
lines: when nobody reads standard error, requests go on, and lines are dropped and counted.
"""

import atexit
import json
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from queue import SimpleQueue
from random import getrandbits
from threading import Event, Thread
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor

from .settings import ServiceSettings

REQUEST_ID_HEADER = "X-Request-ID"

QUEUE_SIZE = 10_000
"""Lines that may wait to be written. Further lines are dropped."""

BATCH_SIZE = 1000
"""Lines that are written at once at most."""

COLLECT = 0.01
"""Seconds in which lines are collected. A thread that wakes up for each line takes turns with the
event loop: without that, requests per CPU second rise by up to 7 %."""

FLUSH_TIMEOUT = 0.5
"""Seconds that writing the last lines may take when the process ends."""

ACCESS = f"{__package__}.access"
"""The logger of requests, streams and WebSockets."""

_access = logging.getLogger(ACCESS)

_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def start_request(given: str) -> str:
    """Give the current request an ID, which all its log lines have, and return it.

    given: the ID that the client sent. It is used if it is harmless in logs and headers.
    """
    # Reading random bytes from the system takes 9 µs, and the ID is no secret.
    own = f"{getrandbits(128):032x}"  # noqa: S311
    request_id = given if _HARMLESS_ID.fullmatch(given) else own
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def current_request_id() -> str:
    """Return the ID of the current request, or an empty string outside a request."""
    request_id: str = structlog.contextvars.get_contextvars().get("request_id", "")
    return request_id


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def formatter(log_format: str = "json") -> logging.Formatter:
    """Return what formats all lines, those of the standard library, too."""
    render: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if log_format == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def configure(settings: ServiceSettings) -> None:
    """Set up logging for the whole process."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = background_handler()
    handler.setFormatter(formatter(settings.log_format))
    handler.is_json = settings.log_format == "json"
    root = logging.getLogger()
    root.setLevel(settings.log_level)
    root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True
    # The access log of `serving` knows the route and the request ID.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)


def _is_no_handshake(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's line about a WebSocket, which has the query of its URL."""
    return not str(record.msg).startswith('%s - "WebSocket')


def log_access(event: str, line: dict[str, Any]) -> None:
    """Log how a request ended.

    A line by structlog and the standard library takes 35 µs, a third of a small request; this one
    takes 6.
    """
    if not _access.isEnabledFor(logging.INFO):
        return
    handler = background_handler()
    if not handler.is_json:
        structlog.stdlib.get_logger(ACCESS).info(event, **line)
        return
    line |= structlog.contextvars.get_contextvars()
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line |= {"event": event, "level": "info", "logger": ACCESS, "timestamp": now}
    handler.write(_to_json(line))


def finish() -> None:
    """Write each further line before the process goes on, unless nobody reads them.

    A server such as uvicorn handles SIGTERM, and repeats it at the end: that kills the process.
    """
    background_handler().waits = callable(signal.getsignal(signal.SIGTERM))


class BackgroundHandler(logging.Handler):
    """Formats lines where they are logged, and has a thread write them to standard error."""

    is_json = True

    def __init__(self) -> None:
        super().__init__()
        self._start()
        atexit.register(self.flush)
        if sys.platform != "win32":
            # A child, as of a ProcessPoolExecutor, needs a thread of its own.
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._queue: SimpleQueue[str | Event] = SimpleQueue()
        self._dropped = 0
        self._hurry = Event()
        self.waits = False
        Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and write it. One that cannot be formatted must not fail its caller."""
        try:
            line = self.format(record)
        except Exception as error:
            line = self._own(f"a line of {record.name} has no format: {type(error).__name__}")
        self.write(line)

    def write(self, line: str) -> None:
        """Queue a line, or count it as dropped when the queue is full."""
        if self._queue.qsize() < QUEUE_SIZE:
            self._queue.put(line)
        else:
            self._dropped += 1
        if self.waits:
            self.flush()

    def flush(self) -> None:
        """Wait until the queued lines are written, for FLUSH_TIMEOUT at most."""
        written = Event()
        self._queue.put(written)
        self._hurry.set()
        if not written.wait(FLUSH_TIMEOUT):
            self.waits = False
        self._hurry.clear()

    def _run(self) -> None:
        while True:
            waiting = [self._queue.get()]
            self._hurry.wait(COLLECT)
            waiting += [self._queue.get() for _ in range(min(self._queue.qsize(), BATCH_SIZE))]
            lines = [line for line in waiting if isinstance(line, str)]
            if self._dropped:
                # Not queued: the queue may be full again.
                dropped, self._dropped = self._dropped, 0
                lines.append(self._own(f"{dropped} log lines were dropped"))
            with suppress(OSError, ValueError):
                sys.stderr.write("".join(f"{line}\n" for line in lines))
                sys.stderr.flush()
            for written in waiting:
                if isinstance(written, Event):
                    written.set()

    def _own(self, text: str) -> str:
        """Format a line of this handler."""
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (), None)
        return self.format(record)


def _to_json(line: dict[str, Any], **_: Any) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=repr).decode()
    except Exception:  # such as a number of more than 64 bits
        with suppress(Exception):
            return json.dumps(line, default=repr, skipkeys=True)
    # Such as a list that contains itself: a line must not fail its caller.
    plain = str | int | float | None
    return json.dumps(
        {name: it if isinstance(it, plain) else str(type(it)) for name, it in line.items()}
    )


@cache
def background_handler() -> BackgroundHandler:
    """Return the handler of this process."""
    return BackgroundHandler()
