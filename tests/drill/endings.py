"""The end of the service: under load, with streams, with frozen backends, with an unread log."""

import asyncio
import fcntl
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import aiohttp
from orders.core.logs import QUEUE_SIZE

from .load import Call, Client, Load, client, get
from .parts import (
    ENDED_BY_SIGTERM,
    MARGIN,
    MIX,
    OVERVIEW_TIMEOUT,
    REFUSED,
    TIMEOUT,
    WEATHER,
    Parts,
)
from .phase import Phase
from .servers import LATE, Mood
from .service import Service

UNREAD = 0.25
"""Seconds for which a request may lie in the network unread. It is not accepted yet."""

STREAMS = 20
"""Event streams, and as many WebSockets."""

CROWD_TIMEOUT = 60.0

PIPE = 4096
"""Bytes that a pipe holds whose reader does not read."""


class Endings(Parts):
    """The service ends."""

    async def _terminated(self, running: Service) -> None:
        """Send SIGTERM while requests are being answered."""
        async with (
            self._phase("SIGTERM under load") as phase,
            # A request on a connection that stayed open may cross the server's closing it, so that
            # nobody could say whether it was accepted.
            client(running.url, keep_alive=False) as clients,
        ):
            self._upstream.mood = Mood.LATE
            ended = asyncio.Event()

            async def visit(name: str, call: Call) -> None:
                while not ended.is_set() and (await clients.send(name, call)).status:
                    pass

            visits = asyncio.gather(
                *(visit("http", WEATHER) for _ in range(60)),
                *(visit("postgres", get("/notes/1")) for _ in range(10)),
            )
            await asyncio.sleep(1)
            asked, took = await self._end(phase, running, LATE + REFUSED)
            ended.set()
            await visits
            self._upstream.mood = Mood.WELL

            answered = {line["request_id"] for line in _lines(running) if "status" in line}
            accepted = self._upstream.seen | answered
            turned_away = [r for r in clients.replies if not r.status]
            # What had been sent, but not read when the signal came, was not accepted.
            unread = [reply for reply in turned_away if reply.sent < math.inf]
            lost = [
                reply
                for reply in turned_away
                if reply.request_id in accepted or reply.sent < asked - UNREAD
            ]
            in_flight = [r for r in clients.replies if r.started < asked < r.ended]
            phase.count([r for r in clients.replies if r.status])
            phase.lost = len(lost)
            phase.notes.append(
                f"{len(in_flight)} in flight, {len(turned_away)} turned away afterwards, of them"
                f" {len(unread)} sent but not read, ended after {took:.2f} s"
            )
            why = {reply.trouble for reply in lost}
            phase.expect(not lost, f"{len(lost)} accepted requests got no reply: {why}")
            phase.expect(len(in_flight) >= 50, f"only {len(in_flight)} were in flight")
            phase.limit((r for r in clients.replies if r.status), LATE + 2 * MARGIN, "an answer")
            await self._idle(phase, dict.fromkeys(("postgres", "mongo", "redis"), 0))

    async def _streams_told(self) -> None:
        """Send SIGTERM while event streams and WebSockets are open. Each one is told."""
        async with (
            self._phase("SIGTERM with streams") as phase,
            self._service("streams") as running,
            client(running.url) as clients,
            aiohttp.ClientSession(running.url) as session,
        ):
            streams = [_Stream(session, f"stream-{number}") for number in range(2 * STREAMS)]
            for number, stream in enumerate(streams):
                stream.begin(websocket=number % 2 == 1)
            # Clients that leave by themselves, so that the log can tell them apart.
            left = [_Stream(session, f"left-{number}") for number in range(4)]
            for number, stream in enumerate(left):
                stream.begin(websocket=number % 2 == 1)
            await asyncio.gather(*(stream.opened.wait() for stream in streams + left))
            for stream in left:
                await stream.leave()
            await asyncio.sleep(REFUSED / 4)
            self._upstream.mood = Mood.LATE
            calls = [asyncio.create_task(clients.send("http", WEATHER)) for _ in range(10)]
            await asyncio.sleep(0.1)

            asked, took = await self._end(phase, running, LATE + REFUSED)
            phase.count(await asyncio.gather(*calls))
            self._upstream.mood = Mood.WELL
            ends = [await stream.ended() for stream in streams]
            phase.requests += len(streams) + len(left)
            told = max(when for when, _ in ends) - asked
            phase.notes.append(
                f"{len(streams)} streams and WebSockets were told within {told * 1000:.0f} ms,"
                f" ended after {took:.2f} s"
            )
            phase.expect(told <= MARGIN, f"the last stream was told after {told:.2f} s")
            how = Counter(end for _, end in ends)
            expected = {"complete": STREAMS, "close code 1012": STREAMS}
            phase.expect(how == expected, f"the clients saw {dict(how)}, not {expected}")
            self._check_lines(phase, running, streams, "shutdown")
            self._check_lines(phase, running, left, "client left")
            await self._idle(phase, dict.fromkeys(("postgres", "mongo", "redis"), 0))

    def _check_lines(
        self, phase: Phase, running: Service, streams: list["_Stream"], ended: str
    ) -> None:
        """Check that the log has one line for each stream, and that it is true."""
        lines: dict[str, list[Mapping[str, Any]]] = {}
        for line in _lines(running):
            lines.setdefault(line.get("request_id", ""), []).append(line)
        wrong = []
        for stream in streams:
            found = lines.get(stream.request_id, [])
            seconds = found[0].get("duration_ms", 0) / 1000 if found else 0
            if (
                len(found) != 1
                or found[0].get("ended") != ended
                or found[0].get("status") != (101 if stream.websocket else 200)
                or abs(seconds - stream.seconds) > MARGIN
            ):
                wrong.append((stream.request_id, round(stream.seconds, 1), found))
        phase.expect(not wrong, f"the lines of {len(wrong)} streams are not true: {wrong[:1]}")

    async def _frozen_end(self) -> None:
        """Send SIGTERM while all backends are frozen, and nothing is to be done."""
        async with self._phase("all frozen, SIGTERM") as phase, self._service("frozen") as running:
            async with client(running.url) as clients:
                await self._use_all(phase, clients)
                await self._freeze_all()
                try:
                    _, took = await self._end(phase, running, REFUSED)
                finally:
                    await self._thaw_all()
            phase.notes.append(f"ended after {took:.2f} s")
            await self._idle(phase, dict.fromkeys(("postgres", "mongo", "redis"), 0))

    async def _frozen_end_under_load(self) -> None:
        """Send SIGTERM while all backends are frozen, and requests wait for them."""
        calls = {name: calls for name, (_, calls) in MIX.items() if name != "live"}
        async with (
            self._phase("all frozen, SIGTERM under load") as phase,
            self._service("frozen-load") as running,
            client(running.url) as clients,
        ):
            await self._use_all(phase, clients)
            await self._freeze_all()
            try:
                waiting = [
                    asyncio.create_task(clients.send(name, call))
                    for name, each in calls.items()
                    for call in 5 * each
                ]
                await asyncio.sleep(0.2)
                asked, took = await self._end(phase, running, TIMEOUT + MARGIN + REFUSED)
            finally:
                await self._thaw_all()
            replies = await asyncio.gather(*waiting)
            phase.count(replies, set(calls))
            phase.limit(replies, TIMEOUT + MARGIN, "an answer")
            overview = [reply for reply in replies if reply.endpoint == "overview"]
            phase.limit(overview, OVERVIEW_TIMEOUT + MARGIN, "overview")
            last = max(reply.ended for reply in replies) - asked
            phase.notes.append(f"the last answer came after {last:.2f} s, the end after {took:.2f}")
            phase.expect(took - last <= REFUSED, f"closing took {took - last:.2f} s")
            await self._idle(phase, dict.fromkeys(("postgres", "mongo", "redis"), 0))

    async def _use_all(self, phase: Phase, clients: Client) -> None:
        """Use every backend on several connections."""
        for name, (_, calls) in MIX.items():
            await self._works(phase, clients, name, calls[0])

    async def _freeze_all(self) -> None:
        await asyncio.gather(*(backend.freeze() for backend in self._backends.values()))

    async def _thaw_all(self) -> None:
        await asyncio.gather(*(backend.thaw() for backend in self._backends.values()))

    async def _log_unread(self) -> None:
        """Let nobody read the log. Requests go on, and lines are dropped and counted."""
        async with self._phase("nobody reads the log") as phase:
            with _pipe() as (reader, writer):
                async with (
                    self._service("unread", stderr=writer) as running,
                    client(running.url) as clients,
                ):
                    os.close(writer)
                    async with Load(clients, MIX).running() as replies:
                        await asyncio.sleep(1)
                    load = list(replies)
                    phase.count(load)
                    phase.limit(load, MARGIN, "an answer")
                    self._check_others(phase, load, set(MIX))

                    try:
                        crowd = await _crowd(running, QUEUE_SIZE + 2000)
                    except TimeoutError:
                        phase.expect(False, "requests wait for the log")
                        return
                    phase.requests += len(crowd)
                    phase.expect(max(crowd) <= MARGIN, f"an answer took {max(crowd):.2f} s")
                    sent = len(load) + len(crowd)
                    logged, dropped, broken = await asyncio.to_thread(_read, reader, sent)
                    phase.notes.append(
                        f"of {sent} lines, {logged} came when the log was read again, and {dropped}"
                        f" were counted as dropped"
                    )
                    phase.expect(dropped > 0, "no line was dropped")
                    phase.expect(logged + dropped == sent, f"{sent - logged - dropped} lines lost")
                    phase.expect(not broken, f"{broken} lines are no JSON")

                    await _crowd(running, 200)
                    _, took = await self._end(phase, running, REFUSED)
                    phase.notes.append(f"ended after {took:.2f} s")
            await self._idle(phase, dict.fromkeys(("postgres", "mongo", "redis"), 0))

    async def _end(self, phase: Phase, running: Service, allowed: float) -> tuple[float, float]:
        """Send SIGTERM, and wait for the end; return when it was sent, and the seconds it took."""
        asked = perf_counter()
        running.terminate()
        code = await running.end()
        took = perf_counter() - asked
        phase.expect(code in ENDED_BY_SIGTERM, f"the exit code was {code}")
        phase.expect(took <= allowed, f"the end took {took:.2f} s, not {allowed:.2f}")
        phase.expect(b"Traceback" not in running.log.read_bytes(), f"see {running.log}: Traceback")
        return asked, took


class _Stream:
    """An event stream or a WebSocket, as a client sees it."""

    def __init__(self, session: aiohttp.ClientSession, request_id: str) -> None:
        self._session = session
        self._headers = {"X-Request-ID": request_id}
        self._started = self._ended = 0.0
        self.request_id = request_id
        self.websocket = False
        self.opened = asyncio.Event()

    @property
    def seconds(self) -> float:
        """Return how long it was open."""
        return self._ended - self._started

    def begin(self, *, websocket: bool) -> None:
        """Open it, and read what comes."""
        self.websocket = websocket
        self._task = asyncio.create_task(self._listen() if websocket else self._read())

    async def leave(self) -> None:
        """Close it as a client that goes away."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._ended = perf_counter()

    async def ended(self) -> tuple[float, str]:
        """Wait for its end; return when that was, and how the client saw it."""
        how = await self._task
        return self._ended, how

    async def _read(self) -> str:
        self._started = perf_counter()
        try:
            async with self._session.get("/streams/notes", headers=self._headers) as response:
                async for _ in response.content:
                    self.opened.set()
        except aiohttp.ClientError as error:
            return repr(error)
        finally:
            self._ended = perf_counter()
        return "complete"

    async def _listen(self) -> str:
        self._started = perf_counter()
        connecting = self._session.ws_connect("/streams/echo?token=secret", headers=self._headers)
        async with connecting as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            self.opened.set()
            await socket.receive()
            self._ended = perf_counter()
            return f"close code {socket.close_code}"


def _lines(running: Service) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of the log that are about a request."""
    for line in running.log.read_text().splitlines():
        if "request_id" in line:
            yield json.loads(line)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Lend a small pipe: the end to read, and the one to write, which the caller closes."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    try:
        yield reader, writer
    finally:
        os.close(reader)


def _read(reader: int, lines: int) -> tuple[int, int, int]:
    """Read the log until it has told of so many requests, for some seconds at most.

    Returns the requests that have a line, the lines that were dropped, and those that are no JSON.
    """
    os.set_blocking(reader, False)
    logged = dropped = broken = 0
    rest = b""
    end = perf_counter() + 10
    while logged + dropped < lines and perf_counter() < end:
        try:
            *complete, rest = (rest + os.read(reader, 1 << 16)).split(b"\n")
        except BlockingIOError:
            continue
        for line in complete:
            try:
                found = json.loads(line)
            except ValueError:
                broken += 1
                continue
            logged += str(found.get("request_id")).startswith("drill-")
            if said := re.fullmatch(r"(\d+) log lines were dropped", found["event"]):
                dropped += int(said[1])
    return logged, dropped, broken


async def _crowd(running: Service, requests: int) -> list[float]:
    """Send many requests as fast as 50 connections can; return the seconds that each one took.

    Raises TimeoutError when that takes too long.
    """
    host, port = running.url.removeprefix("http://").split(":")
    left = requests
    took: list[float] = []

    async def visit() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(host, int(port))
        while left > 0:
            left -= 1
            head = (
                f"GET /health/live HTTP/1.1\r\nHost: drill\r\nX-Request-ID: drill-c{left}\r\n\r\n"
            )
            began = perf_counter()
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"status":"ok"}'))
            took.append(perf_counter() - began)
            assert answer.startswith(b"HTTP/1.1 200"), answer
        writer.close()

    async with asyncio.timeout(CROWD_TIMEOUT):
        await asyncio.gather(*(visit() for _ in range(50)))
    return took
