"""Run a library that has no async form in a thread, so that the event loop stays free.

    from ..core import blocking

    key = await blocking.run(hashlib.scrypt, password, salt=salt, n=2**14, r=8, p=1)

This helps with code that waits, or that computes outside Python. Python code that computes needs
another process. A running call cannot be cancelled: when the client leaves or REQUEST_TIMEOUT
passes, it keeps its thread until it ends. Give the library a timeout of its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import structlog
from quart import Quart, current_app

from .errors import BackendUnavailable
from .settings import ServiceSettings

NAME = "blocking"

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)


def init_app(app: Quart, settings: ServiceSettings) -> None:
    """Allow `run()` in this app."""
    threads = asyncio.Semaphore(settings.blocking_threads)
    app.extensions[NAME] = (threads, settings.blocking_acquire_timeout)


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread; returns what it returns and raises what it raises.

    The thread sees the same context variables. Raises BackendUnavailable when no thread becomes
    free in time. A script or test needs `async with app.app_context():` around it.
    """
    threads, timeout = current_app.extensions[NAME]
    try:
        async with asyncio.timeout(timeout):
            await threads.acquire()
    except TimeoutError as error:
        raise BackendUnavailable("no thread is free") from error
    call = partial(copy_context().run, function, *args, **kwargs)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()
    ended.add_done_callback(lambda _: threads.release())
    # A thread per call costs 0.1 ms. As a daemon, it cannot keep the process from ending.
    Thread(target=_work, args=(call, loop, ended), name=NAME, daemon=True).start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        # Arguments may be secret: the log names the function only.
        name = getattr(function, "__qualname__", type(function).__qualname__)
        log.warning("blocking call goes on without its request", function=name)
        ended.add_done_callback(_log_failure)
        raise


def _work(call: Callable[[], Any], loop: Any, ended: "asyncio.Future[Any]") -> None:
    try:
        result = call()
        report = partial(ended.set_result, result)
    except StopIteration as error:
        # A future refuses it, because it would end a coroutine silently.
        report = partial(ended.set_exception, RuntimeError(repr(error)))
    except BaseException as error:  # it is raised where the call was made
        report = partial(ended.set_exception, error)
    # The loop is closed if the service has stopped meanwhile.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(report)


def _log_failure(ended: "asyncio.Future[Any]") -> None:
    if error := ended.exception():
        log.error("blocking call failed after its request had ended", exc_info=error)
