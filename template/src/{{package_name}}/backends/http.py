"""Outbound HTTP, through one aiohttp session per process.

    from ..backends import http

    async with http.session().get(http.path("customers", name)) as response:
        response.raise_for_status()
        customer = await response.json()

A relative URL, without a leading slash, is below UPSTREAM_URL. The session is aiohttp's:
https://docs.aiohttp.org/en/stable/client.html
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
from aiohttp.connector import Connection
from pydantic import Field, NonNegativeInt, PositiveInt, SecretStr
from pydantic_settings import SettingsConfigDict
from werkzeug.exceptions import NotFound
from yarl import URL

from ..core.logs import REQUEST_ID_HEADER, current_request_id
from ..core.settings import Seconds
from .base import Backend, FairLimit, PoolSettings, parsed_by

EXAMPLE = "https://api.example.org"

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent twice: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2"""

RETRYABLE = frozenset({502, 503, 504})
"""Statuses that a retry may cure."""

BACKOFF = 0.05
"""Seconds before the first retry at most. The limit doubles with each further retry."""


def _parse(url: str) -> None:
    parsed = URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError


class HttpSettings(PoolSettings):
    """UPSTREAM_URL, and the variables that begin with UPSTREAM_."""

    model_config = SettingsConfigDict(env_prefix="UPSTREAM_")

    url: Annotated[SecretStr, parsed_by(_parse, EXAMPLE)] = Field(
        validation_alias="UPSTREAM_URL", examples=[EXAMPLE]
    )
    """The address of the web service that this service calls."""

    pool_size: PositiveInt = 100
    """Connections that one process opens to one host."""

    timeout: Seconds = 5.0
    """Seconds that one call may take, with its retries. After that the client gets a 504."""

    retries: NonNegativeInt = 2
    """Retries of an idempotent call. After that the client gets a 502."""


def path(*parts: object) -> str:
    """Return a relative URL from the parts of a path, each quoted.

    Raises NotFound for a part that would lead elsewhere: an empty one, "." or "..".
    """
    texts = [str(part) for part in parts]
    if not {"", ".", ".."}.isdisjoint(texts):
        raise NotFound
    return "/".join(quote(text, safe="") for text in texts)


class Response(ClientResponse):
    """aiohttp's response. A body that cannot be decoded is the fault of the upstream."""

    async def text(self, *args: Any, **options: Any) -> str:
        """Return the body as text; raises ClientPayloadError if it cannot be decoded."""
        try:
            return await super().text(*args, **options)
        except ValueError as error:
            raise aiohttp.ClientPayloadError("the body is not text") from error

    async def json(self, *args: Any, **options: Any) -> Any:
        """Return the body as JSON; raises ClientPayloadError if it is no JSON."""
        try:
            return await super().json(*args, **options)
        except (ValueError, RecursionError) as error:
            raise aiohttp.ClientPayloadError("the body is not JSON") from error


class FairConnector(aiohttp.TCPConnector):
    """aiohttp's pool, with waits that are fair and bounded.

    aiohttp lets a call that comes overtake those that wait: of 12 clients in loops on 2
    connections, two were served 600 times and the others once.
    """

    def __init__(self, settings: HttpSettings) -> None:
        super().__init__(limit=0)
        self._settings = settings
        # By host. A limit goes when nobody waits for it or holds a place of it.
        self._places = WeakValueDictionary[object, FairLimit]()

    async def connect(self, req: ClientRequest, *args: Any, **options: Any) -> Connection:
        """Lend a connection; raises BackendUnavailable when none becomes free in time."""
        size, timeout = self._settings.pool_size, self._settings.acquire_timeout
        new = FairLimit(BACKEND.name, size, timeout)
        places = self._places.setdefault(req.connection_key, new)
        await places.acquire()
        try:
            connection = await super().connect(req, *args, **options)
        except BaseException:
            places.release()
            raise
        connection.add_callback(places.release)
        return connection


@asynccontextmanager
async def connect(settings: HttpSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session. It connects when a call first needs it."""
    async with aiohttp.ClientSession(
        base_url=settings.url.get_secret_value().rstrip("/") + "/",
        connector=FairConnector(settings),
        timeout=aiohttp.ClientTimeout(
            total=settings.timeout,
            sock_connect=settings.connect_timeout,
            # aiohttp rounds timeouts of 5 s and more up to full seconds.
            ceil_threshold=math.inf,
        ),
        # Cookies of one client must not reach another one.
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(pass_request_id, retry_idempotent(settings.retries)),
        response_class=Response,
    ) as session:
        yield session


async def pass_request_id(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Send the ID of the current request along, so that the logs of both services can be joined."""
    if request_id := current_request_id():
        request.headers.setdefault(REQUEST_ID_HEADER, request_id)
    return await handler(request)


def retry_idempotent(retries: int) -> ClientMiddlewareType:
    """Return a middleware that retries idempotent calls, with exponential backoff and jitter.

    The session's timeout bounds all attempts together. When the last one fails, its error is
    raised or its response returned.
    """

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        left = retries if request.method in IDEMPOTENT else 0
        while True:
            try:
                response = await handler(request)
                if response.status not in RETRYABLE or left == 0:
                    return response
                response.close()
            except aiohttp.ClientConnectionError:
                if left == 0:
                    raise
            longest = BACKOFF * 2 ** (retries - left)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
            left -= 1

    return middleware


async def ping() -> None:
    """Send HEAD to UPSTREAM_URL. Every status below 500 is fine."""
    async with session().head("", allow_redirects=False) as response:
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            response.raise_for_status()


BACKEND = Backend(
    name="http",
    settings=HttpSettings,
    connect=connect,
    ping=ping,
    failures={
        aiohttp.ConnectionTimeoutError: HTTPStatus.SERVICE_UNAVAILABLE,
        aiohttp.ServerTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
        aiohttp.ClientError: HTTPStatus.BAD_GATEWAY,
    },
    is_database=False,
)


def session() -> aiohttp.ClientSession:
    """Return the session of the serving app; raises RuntimeError outside a serving app."""
    return BACKEND.client()
