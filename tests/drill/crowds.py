"""Clients: many at once, more than there are connections or files, and some that go away."""

import asyncio
from time import perf_counter

from . import servers
from .load import client, get
from .parts import ACQUIRE_TIMEOUT, MARGIN, MIX, POOL_SIZES, REFUSED, WEATHER, Parts, city
from .phase import percentile
from .servers import Mood
from .service import Service

CROWD = 500
SMALL_POOL = 5
FILES = 256


class Crowds(Parts):
    """More clients than the service can serve at once."""

    async def _crowd(self, running: Service) -> None:
        """Serve 500 clients that send the next request when they have the answer to the last."""
        name = f"{CROWD} clients, pool of {SMALL_POOL}"
        async with self._phase(name) as phase, client(running.url) as clients:
            end = perf_counter() + 3

            async def visit() -> None:
                while perf_counter() < end:
                    await clients.send("postgres", get("/notes/1"))

            visits = asyncio.gather(*(visit() for _ in range(CROWD)))
            most = 0
            while not visits.done():
                found = await servers.at_postgres(self._backends["postgres"].url)
                most = max(most, found.open)
                await asyncio.sleep(0.2)
            await visits
            # The first answers also wait for 500 connections to be made.
            settled = [r for r in clients.replies if r.started > end - 2]
            median, p99 = percentile(settled, 0.5), percentile(settled, 0.99)
            # On a busy machine, some may have to wait for too long.
            phase.count(clients.replies, {"postgres"})
            phase.limit(clients.replies, ACQUIRE_TIMEOUT + 2 * MARGIN, "an answer")
            phase.p99 = p99
            phase.notes.append(
                f"median {median * 1000:.0f} ms, {len(settled) / 2:.0f} requests/s,"
                f" at most {most} connections"
            )
            phase.expect(p99 <= 2 * median, f"p99 {p99:.2f} s is more than twice {median:.2f} s")
            phase.expect(most <= SMALL_POOL, f"{most} connections were open at once")
            # Four for each connection to Redis, at once.
            await self._works(phase, clients, "redis", get("/counters/drill"), 4 * 50, 2 * MARGIN)
            await self._idle(phase, POOL_SIZES | {"postgres": SMALL_POOL})

    async def _pool_exhausted(self, running: Service) -> None:
        """Hold all connections with queries that cannot end; others wait, but not for long."""
        url = self._backends["postgres"].url
        held = ACQUIRE_TIMEOUT + 2 * MARGIN
        async with self._phase("pool exhausted") as phase, client(running.url) as clients:
            async with servers.locked_notes(url):
                tasks = [
                    asyncio.create_task(clients.send("postgres", get("/notes/1")))
                    for _ in range(100)
                ]
                await asyncio.sleep(held)
            replies = await asyncio.gather(*tasks)
            phase.count(replies, {"postgres"})
            refused = [reply for reply in replies if not reply.good]
            phase.limit(refused, ACQUIRE_TIMEOUT + MARGIN, "a refusal")
            phase.expect(
                len(refused) == len(replies) - SMALL_POOL,
                f"{len(refused)} of {len(replies)} were refused",
            )
            await self._works(phase, clients, "postgres", get("/notes/1"))
            await self._idle(phase, POOL_SIZES | {"postgres": SMALL_POOL})

    async def _hang_up(self, running: Service) -> None:
        """Let clients go away in the middle of a request, or of sending one."""
        url = self._backends["postgres"].url
        async with self._phase("clients hang up") as phase:
            found = await servers.connections(self._backends)
            before = sum(at.open for at in found.values())
            files = running.open_files()
            self._upstream.mood = Mood.SILENT
            async with servers.locked_notes(url):
                await asyncio.gather(
                    *(_hang_up(running, _request("GET", "/notes/1")) for _ in range(100)),
                    *(_hang_up(running, _request("GET", "/overview")) for _ in range(20)),
                    *(
                        _hang_up(running, _request("GET", f"/weather/{city(number)}x"))
                        for number in range(50)
                    ),
                    *(
                        _hang_up(running, _request("POST", "/notes", length=100) + b'{"title": ')
                        for _ in range(50)
                    ),
                )
                phase.requests = 220
                phase.statuses = {"none": 220}

                async def nobody_waits() -> bool:
                    return (await servers.at_postgres(url)).busy == 0 and not self._upstream.waiting

                # With the table still locked, only a cancelled query can have ended.
                kept = await servers.until(nobody_waits, REFUSED)
                busy = (await servers.at_postgres(url)).busy
                phase.expect(
                    kept, f"{busy} queries, {self._upstream.waiting} calls go on for nobody"
                )
            self._upstream.mood = Mood.WELL
            async with client(running.url) as clients:
                await self._works(phase, clients, "postgres", get("/notes/1"))
                await self._works(phase, clients, "http", WEATHER)
            await self._idle(phase, POOL_SIZES | {"postgres": SMALL_POOL})
            # Connections to the backends, made meanwhile, stay; those of clients do not.
            made = sum(found.open for found in phase.left_open.values()) - before
            more = running.open_files() - files - made
            phase.notes.append(f"{more} more files open than before")
            phase.expect(more <= 10, f"{more} more files are open than before")

    async def _few_files(self, running: Service) -> None:
        """Send more clients than the service may have files: some are refused, none harms it."""
        async with self._phase(f"open-file limit of {FILES}") as phase:
            calls = {name: calls[0] for name, (_, calls) in MIX.items()}
            async with client(running.url) as clients:
                end = perf_counter() + 2

                async def visit(name: str) -> None:
                    while perf_counter() < end:
                        reply = await clients.send(name, calls[name])
                        if not reply.status:
                            await asyncio.sleep(0.1)

                names = list(calls)
                visits = (visit(names[number % len(names)]) for number in range(2 * FILES))
                await asyncio.gather(*visits)
                replies = clients.replies
            back = perf_counter()
            # The service can accept no more than it has files for; whom it does accept, it serves.
            served = [reply for reply in replies if reply.status]
            phase.count(served, set(calls))
            refused = len(replies) - len(served)
            phase.requests += refused
            phase.statuses["none"] = refused
            phase.notes.append(f"{refused} not accepted")
            async with client(running.url) as clients:
                for name, call in calls.items():
                    await self._works(phase, clients, name, call)
            phase.recovery = perf_counter() - back
            phase.expect(phase.recovery <= REFUSED, f"recovered after {phase.recovery:.2f} s")
            await self._idle(phase, POOL_SIZES)


def _request(method: str, path: str, length: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: drill\r\n"
    if length is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"{head}\r\n".encode()


async def _hang_up(running: Service, request: bytes) -> None:
    """Send a request, or a part of one, and go away without waiting for the reply."""
    host, port = running.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.transport.abort()
