"""What the backends share: what one is, a fair wait for a connection, opening and closing."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, Generic, TypeVar

import structlog
from pydantic import AfterValidator, PositiveInt, SecretStr
from quart import Quart, current_app, has_app_context

from ..core.errors import BackendUnavailable, Failures
from ..core.settings import EnvSettings, Seconds

CLOSE_TIMEOUT = 1.0
"""Seconds that closing all clients may take when the service stops."""

SettingsT = TypeVar("SettingsT", bound=EnvSettings)
ClientT = TypeVar("ClientT")

REPLACE_EVERY = 1.0
"""Seconds between two replacements of all connections, after a server has refused a request."""

log = structlog.stdlib.get_logger(__name__)

if sys.version_info < (3, 12):
    _wait_for = asyncio.wait_for

    async def wait_for(awaitable: Any, timeout: float | None) -> Any:  # noqa: ASYNC109
        """Wait as on Python 3.12: before, a cancellation by a timeout could be lost."""
        if timeout is not None and timeout <= 0:
            return await _wait_for(awaitable, timeout)
        async with asyncio.timeout(timeout):
            return await awaitable

    # Some clients wait with it in each command, some for each connection.
    asyncio.wait_for = wait_for  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Backend(Generic[SettingsT, ClientT]):
    """One backend: its settings, its client, its health check and its errors.

    name: the name in the readiness report and the logs.
    settings: the settings class, read from the environment at start.
    connect: opens the client inside the event loop, and closes it at the end. The server may be
        down: the service starts without its backends and recovers by itself.
    ping: one cheap round trip; raises any exception when it fails.
    failures: errors of the client that are not bugs of this service, and their HTTP status.
    is_database: whether /health/ready answers 503 without it by default.
    """

    name: str
    settings: type[SettingsT]
    connect: Callable[[SettingsT], AbstractAsyncContextManager[ClientT]]
    ping: Callable[[], Awaitable[None]]
    failures: Failures
    is_database: bool

    def client(self) -> ClientT:
        """Return the client of the serving app; raises RuntimeError outside a serving app."""
        if has_app_context() and self.name in current_app.extensions:
            client: ClientT = current_app.extensions[self.name]
            return client
        raise RuntimeError(
            f"The {self.name} client exists while the app serves: use it in a handler, or in a "
            "script or test inside `async with app.test_app(), app.app_context():`."
        )


def is_raised_by(error: BaseException, *packages: str) -> bool:
    """Return whether a package itself has raised an error, and not the code that calls it."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].partition(".")[0] in packages


class InvalidUrl(ValueError):
    """A URL that the client cannot use. The message shows no part of it."""


def parsed_by(parse: Callable[[str], object], example: str) -> AfterValidator:
    """Return a validator that reads a URL with the parser of the client that will use it.

    parse: raises InvalidUrl with a message for people, or any other error. The message of another
    error stays hidden, because it may quote a part of the password.
    """

    def check(url: SecretStr) -> SecretStr:
        try:
            if "#" in url.get_secret_value():
                raise InvalidUrl("has the character #; write it as %23 in a user or a password")
            parse(url.get_secret_value())
        except InvalidUrl:
            raise
        except Exception:  # each client has errors of its own
            raise InvalidUrl(f"is not a valid URL; for example {example}") from None
        return url

    return AfterValidator(check)


class PoolSettings(EnvSettings):
    """The variables that every connection pool has, after the prefix of its backend."""

    pool_size: PositiveInt = 50
    """Connections that one process opens."""

    acquire_timeout: Seconds = 1.0
    """Seconds to wait for a free connection. After that the client gets a 503."""

    connect_timeout: Seconds = 1.5
    """Seconds to wait for a new connection. After that the client gets a 503."""

    timeout: Seconds = 5.0
    """Seconds that one operation may take. After that the client gets a 503."""


class FairLimit:
    """At most `size` holders at a time. Others wait, first come, first served."""

    def __init__(self, name: str, size: int, timeout: float | None) -> None:
        """name: of the backend, for the error. timeout: seconds to wait; None: no limit."""
        self._free = asyncio.Semaphore(size)
        self.name = name
        self.timeout = timeout

    async def acquire(self, within: float | None = None) -> None:
        """Wait for a place; raises BackendUnavailable when none becomes free in time.

        within: seconds that the caller has left, if that is less than the timeout.
        """
        if not self._free.locked():
            await self._free.acquire()
            return
        limits = [limit for limit in (self.timeout, within) if limit is not None]
        try:
            async with asyncio.timeout(min(limits, default=None)):
                await self._free.acquire()
        except TimeoutError as error:
            raise BackendUnavailable(f"no connection to {self.name} is free") from error

    def release(self) -> None:
        """Give the place to whoever has waited longest."""
        self._free.release()


@asynccontextmanager
async def connected(
    app: Quart, backends: Sequence[Backend[Any, Any]], settings: Sequence[Any]
) -> AsyncIterator[None]:
    """Open the clients of all backends, and close them at the end.

    settings: one instance for each backend. All clients are closed at the same time and within
    CLOSE_TIMEOUT, so that a frozen server cannot hold up the shutdown.
    """
    opened: dict[str, AbstractAsyncContextManager[Any]] = {}
    try:
        for backend, its_settings in zip(backends, settings, strict=True):
            context = backend.connect(its_settings)
            app.extensions[backend.name] = await context.__aenter__()
            opened[backend.name] = context
        yield
    finally:
        for name in opened:
            del app.extensions[name]
        await asyncio.gather(*(_close(*each) for each in reversed(opened.items())))


async def _close(name: str, context: AbstractAsyncContextManager[Any]) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await context.__aexit__(None, None, None)
    except TimeoutError:
        log.warning("client not closed in time", backend=name)
    except Exception as error:  # the other clients are closed all the same
        log.warning("client not closed", backend=name, exc_info=error)
