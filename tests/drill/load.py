"""What clients do: requests at a steady pace, and a note of how each one ended."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from types import SimpleNamespace

import aiohttp

PATIENCE = 20.0
"""Seconds after which a client gives up; longer than any answer may take."""

KEEP_ALIVE = 3.0
"""Seconds that an idle connection is kept: less than the server does, so that none is used while
the server closes it."""

NO_REPLY = 0
"""In place of a status: the connection was refused or cut, or the reply never came."""


@dataclass(frozen=True)
class Reply:
    """How a request ended; started is on the clock of `perf_counter`."""

    endpoint: str
    request_id: str
    started: float
    seconds: float
    status: int
    sent: float = math.inf
    """When the request was handed to the network, if it was."""
    trouble: str = ""
    """Why there is no status."""

    @property
    def ended(self) -> float:
        """When the reply was complete."""
        return self.started + self.seconds

    @property
    def good(self) -> bool:
        """Whether the client got what it asked for."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Call:
    """What to request: a method, a path made for the n-th request, a JSON body."""

    method: str
    path: Callable[[int], str]
    body: Mapping[str, object] | None = None


def get(path: str) -> Call:
    """Return a call that reads."""
    return Call("GET", lambda _: path)


def post(path: str, **body: object) -> Call:
    """Return a call that writes."""
    return Call("POST", lambda _: path, body or None)


_numbers = count(1)


class Client:
    """Sends requests to the service, and keeps how each one ended in `replies`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """session: one whose base URL is the service's."""
        self._session = session
        self.replies: list[Reply] = []

    async def send(self, endpoint: str, call: Call) -> Reply:
        """Send one request, and wait for the whole reply."""
        number = next(_numbers)
        request_id = f"drill-{number}"
        sent: list[float] = []
        trouble = ""
        started = perf_counter()
        try:
            async with self._session.request(
                call.method,
                call.path(number),
                json=call.body,
                headers={"X-Request-ID": request_id},
                trace_request_ctx=sent,
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            status, trouble = NO_REPLY, repr(error)
        seconds = perf_counter() - started
        when = sent[0] if sent else math.inf
        reply = Reply(endpoint, request_id, started, seconds, status, when, trouble)
        self.replies.append(reply)
        return reply


@asynccontextmanager
async def client(url: str, *, keep_alive: bool = True) -> AsyncIterator[Client]:
    """Lend a client of the service at the URL; without keep_alive, each request connects anew."""
    connector = (
        aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
        if keep_alive
        else aiohttp.TCPConnector(limit=0, force_close=True)
    )
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_sent)
    async with aiohttp.ClientSession(
        url, connector=connector, timeout=timeout, trace_configs=[trace]
    ) as session:
        # A request is sent once: what becomes of it is what is measured.
        session._retry_connection = False
        yield Client(session)


async def _note_sent(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.append(perf_counter())


@dataclass
class Load:
    """A steady pace of requests to several endpoints, whether they are answered or not."""

    client: Client
    endpoints: Mapping[str, tuple[float, list[Call]]]
    """By name: requests per second, and what they ask for in turn."""

    _waiting: set[asyncio.Task[Reply]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[Reply]]:
        """Keep up the load for the length of the `with` block, and then wait for all replies.

        Lends the list of replies, which grows meanwhile.
        """
        pacers = [asyncio.create_task(self._pace(name)) for name in self.endpoints]
        try:
            yield self.client.replies
        finally:
            for pacer in pacers:
                pacer.cancel()
            await asyncio.gather(*pacers, return_exceptions=True)
            await asyncio.gather(*self._waiting)

    async def _pace(self, name: str) -> None:
        rate, calls = self.endpoints[name]
        begin = perf_counter()
        for number in count():
            await asyncio.sleep(begin + number / rate - perf_counter())
            task = asyncio.create_task(self.client.send(name, calls[number % len(calls)]))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
