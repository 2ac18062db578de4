"""What a backend is, and what the backends share."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

from pydantic_settings import BaseSettings
from quart import current_app, has_app_context

SettingsT = TypeVar("SettingsT", bound=BaseSettings)
ClientT = TypeVar("ClientT")


class BackendUnavailable(Exception):
    """A backend cannot be used now; the client is told to try again (503)."""


@dataclass(frozen=True, kw_only=True)
class Backend(Generic[SettingsT, ClientT]):
    """One backend: its settings, its client, and how to tell whether it works.

    name: what the readiness report and the logs call it.
    settings: the class of its settings, read from the environment at start.
    connect: opens the client inside the serving loop and closes it at the end. It must not need
        the backend to be up: a service starts without its backends, and recovers with them.
    ping: one cheap round trip; raises whatever the client raises when that fails.
    failures: which errors of the client mean that the backend, and not this service, is to blame,
        and the status that a request then ends with.
    """

    name: str
    settings: type[SettingsT]
    connect: Callable[[SettingsT], AbstractAsyncContextManager[ClientT]]
    ping: Callable[[], Awaitable[None]]
    failures: Mapping[type[Exception], HTTPStatus]

    def client(self) -> ClientT:
        """Return the client that the serving app has opened.

        Raises RuntimeError outside a serving app.
        """
        if has_app_context() and self.name in current_app.extensions:
            client: ClientT = current_app.extensions[self.name]
            return client
        raise RuntimeError(
            f"The {self.name} client exists only while the app serves: use it in a handler, or, in "
            "a script or test, inside `async with app.test_app(), app.app_context():`."
        )


class Slots:
    """A fair and bounded wait: first come, first served, and not for ever."""

    def __init__(self, size: int, acquire_timeout: float | None, name: str) -> None:
        """size: how many may hold a slot at once; acquire_timeout: seconds to wait for one.

        Without a timeout, the wait ends when a slot is free.
        """
        self._free = asyncio.Semaphore(size)
        self.timeout = acquire_timeout
        self.name = name

    async def acquire(self, within: float | None = None) -> None:
        """Take a slot; raises BackendUnavailable when none becomes free in time.

        within: seconds that the one who asks still has, where that is less than acquire_timeout.
        """
        if not self._free.locked():
            await self._free.acquire()
            return
        limits = [limit for limit in (self.timeout, within) if limit is not None]
        try:
            async with asyncio.timeout(min(limits, default=None)):
                await self._free.acquire()
        except TimeoutError as error:
            raise BackendUnavailable(f"all slots of {self.name} are in use") from error

    def release(self) -> None:
        """Give a slot back to the one who has waited longest."""
        self._free.release()
