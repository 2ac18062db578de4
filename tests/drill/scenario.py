"""The parts of the drill, one after the other.

It runs on the Python of the generated service, in its folder, and writes `drill.json` into the
folder that is its argument.
"""

import asyncio
import gc
import json
import math
import os
import platform
import re
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter

from . import servers, service
from .load import Call, Client, Load, Reply, client, get, post
from .phase import Phase, percentile
from .servers import LATE, Backend, Mood, Upstream
from .service import Service

# The defaults of the service, in seconds.
TIMEOUT = 5.0
ACQUIRE_TIMEOUT = 1.0
READINESS_TIMEOUT = 1.0
OVERVIEW_TIMEOUT = 2.0
POOL_SIZES = {"postgres": 10, "mongo": 50, "redis": 50}

MARGIN = 0.5
"""Seconds that an answer may take beyond its timeout."""

REFUSED = 2.0
"""Seconds within which a request fails when its backend is down, and works when it is back."""

FACTOR = 3.0
"""How much slower unaffected endpoints may become during a fault, at the 99th percentile."""

LOOP_FREE = 0.5
"""Seconds that the liveness check, which waits for nothing, may take at most."""

BASELINE = 3.0
SHORT = 1.0
LEAD = 0.3
DOWN = 1.8
FROZEN = 6.0
CALM = 0.8
"""Seconds without a failure after which a backend counts as recovered."""

UNREAD = 0.25
"""Seconds for which a request may lie in the network unread; one that does is not accepted yet."""

CROWD = 500
SMALL_POOL = 5
FILES = 256


def city(number: int) -> str:
    """Return a name that was not asked for yet, so that no cache knows it."""
    return "City" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


WEATHER = Call("GET", lambda number: f"/weather/{city(number)}")

MIX: dict[str, tuple[float, list[Call]]] = {
    "live": (25, [get("/health/live")]),
    "postgres": (25, [get("/notes/1"), post("/notes", title="A note", body="of the drill")]),
    "mongo": (25, [get("/events?kind=drill&limit=5"), post("/events", kind="drill", amount=1)]),
    "redis": (25, [get("/counters/drill"), post("/counters/drill")]),
    "http": (25, [WEATHER]),
    "ready": (5, [get("/health/ready")]),
    "overview": (5, [get("/overview")]),
}
"""What the load asks for, and how often in a second."""

ASK_ALL = {"ready", "overview"}
"""Endpoints that ask all backends, and have shorter timeouts of their own."""

NEEDED_BY = {
    "postgres": {"postgres"},
    "mongo": {"mongo"},
    # The weather is kept in Redis. It is to be had without, but waits a little for it first.
    "redis": {"redis", "http"},
    "http": {"http"},
}
"""Which endpoints a fault of a backend concerns, besides those that ask all."""


class Drill:
    """All that the parts share: the servers, the upstream, and what was seen so far."""

    def __init__(self, backends: dict[str, Backend], upstream: Upstream, folder: Path) -> None:
        """folder: for the logs of the service."""
        self._backends = backends
        self._upstream = upstream
        self._folder = folder
        self._baseline: list[Reply] = []
        self.phases: list[Phase] = []

    async def run(self) -> None:
        """Go through all parts."""
        async with self._service("faults") as running:
            await self._nothing_wrong(running)
            for backend in self._backends.values():
                await self._killed(running, backend)
            for backend in self._backends.values():
                await self._frozen(running, backend)
        changed = {"UPSTREAM_URL": self._upstream.url, "POSTGRES_POOL_SIZE": str(SMALL_POOL)}
        async with self._service("crowd", changed) as running:
            await self._upstream_in_all_moods(running)
            await self._crowd(running)
            await self._pool_exhausted(running)
            await self._hang_up(running)
            await self._terminated(running)
        async with self._service("files", open_files=FILES) as running:
            await self._few_files(running)
        await self._started_without_backends()

    @asynccontextmanager
    async def _service(
        self, name: str, changed: Mapping[str, str] | None = None, *, open_files: int | None = None
    ) -> AsyncIterator[Service]:
        log = self._folder / f"{name}.log"
        urls = {backend.variable: backend.url for backend in self._backends.values()}
        environment = urls | dict(changed or {})
        async with service.running(log, environment, open_files=open_files) as running:
            yield running

    @asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[Phase]:
        phase = Phase(name)
        began = perf_counter()
        yield phase
        self.phases.append(phase)
        seconds = perf_counter() - began
        print(f"{name}: {seconds:.1f} s{'' if not phase.broken else ', BROKEN'}", flush=True)
        for broken in phase.broken:
            print(f"    {broken}", flush=True)

    async def _nothing_wrong(self, running: Service) -> None:
        async with self._phase("nothing wrong") as phase, client(running.url) as clients:
            # What only the first requests pay for is not what the others are compared with.
            for name, (_, calls) in MIX.items():
                for call in calls:
                    await clients.send(name, call)
            clients.replies.clear()
            async with Load(clients, MIX).running() as replies:
                await asyncio.sleep(BASELINE)
            self._baseline = replies
            phase.count(replies)
            phase.limit(replies, MARGIN, "an answer")
            phase.p99 = percentile(replies, 0.99)
            await self._idle(phase, POOL_SIZES)

    async def _killed(self, running: Service, backend: Backend) -> None:
        async with self._phase(f"{backend.name} killed") as phase, client(running.url) as clients:
            async with Load(clients, MIX).running() as replies:
                await asyncio.sleep(LEAD)
                began = perf_counter()
                await backend.kill()
                await asyncio.sleep(DOWN)
                await backend.start()
                back = perf_counter()
                await self._calm(replies, backend, back)
            failed = [r for r in replies if r.endpoint == backend.name and not r.good]
            phase.limit(failed, REFUSED, "a refusal")
            self._check_fault(phase, replies, backend, (began, back))
            await self._idle(phase, POOL_SIZES)

    async def _frozen(self, running: Service, backend: Backend) -> None:
        async with self._phase(f"{backend.name} frozen") as phase, client(running.url) as clients:
            async with Load(clients, MIX).running() as replies:
                await asyncio.sleep(LEAD)
                began = perf_counter()
                await backend.freeze()
                await asyncio.sleep(FROZEN)
                back = perf_counter()
                await backend.thaw()
                await self._calm(replies, backend, back)
            self._check_fault(phase, replies, backend, (began, back))
            await self._idle(phase, POOL_SIZES)

    async def _calm(self, replies: list[Reply], backend: Backend, back: float) -> None:
        """Wait until nothing that the backend is needed for fails any more."""
        while perf_counter() < back + REFUSED + 2 * CALM:
            await asyncio.sleep(0.05)
            concerned = [reply for reply in replies if reply.endpoint in _concerned(backend)]
            last = max((reply.ended for reply in concerned if not reply.good), default=back)
            if perf_counter() > max(last, back) + CALM:
                break

    def _check_fault(
        self,
        phase: Phase,
        replies: list[Reply],
        backend: Backend,
        fault: tuple[float, float],
    ) -> None:
        """Check what the load saw of a fault that began and ended at these times."""
        began, back = fault
        needing = NEEDED_BY[backend.name]
        phase.count(replies, {backend.name, "ready"})
        during = [reply for reply in replies if began < reply.ended <= back]

        phase.limit((r for r in replies if r.endpoint in needing), TIMEOUT + MARGIN, "an answer")
        for name, timeout in (("ready", READINESS_TIMEOUT), ("overview", OVERVIEW_TIMEOUT)):
            own = [reply for reply in replies if reply.endpoint == name]
            phase.limit(own, timeout + MARGIN, name)
        for name in (backend.name, "ready"):
            hit = [r for r in during if r.endpoint == name and r.started > began]
            # A fault that nobody notices has not taken place.
            phase.expect(any(not r.good for r in hit), f"{name} said nothing of it in time")

        others = set(MIX) - needing - ASK_ALL
        phase.p99_before = percentile((r for r in self._baseline if r.endpoint in others), 0.99)
        phase.p99 = percentile((r for r in during if r.endpoint in others), 0.99)
        slowest = FACTOR * phase.p99_before
        phase.expect(phase.p99 <= slowest, f"p99 of others {phase.p99:.3f} s, not {slowest:.3f}")
        live = max(r.seconds for r in during if r.endpoint == "live")
        phase.expect(live <= LOOP_FREE, f"the event loop was busy for {live:.2f} s")

        after = [r for r in replies if r.endpoint in _concerned(backend) and r.started >= back]
        failed = [r.ended for r in after if not r.good]
        phase.recovery = max(failed or [min(r.ended for r in after)]) - back
        phase.expect(phase.recovery <= REFUSED, f"recovered after {phase.recovery:.2f} s")

    async def _upstream_in_all_moods(self, running: Service) -> None:
        weather = {name: MIX[name] for name in ("live", "postgres", "redis", "http")}
        moods = {
            Mood.MOODY: (set[int](), REFUSED),
            Mood.BROKEN: ({502}, REFUSED),
            Mood.RESETTING: ({502}, REFUSED),
            Mood.SILENT: ({504}, TIMEOUT + MARGIN),
        }
        async with client(running.url) as clients:
            await clients.send("http", WEATHER)
        for mood, (failures, allowed) in moods.items():
            async with (
                self._phase(f"upstream {mood.value}") as phase,
                client(running.url) as clients,
            ):
                self._upstream.mood = mood
                async with Load(clients, weather).running() as replies:
                    await asyncio.sleep(SHORT)
                self._upstream.mood = Mood.WELL
                phase.count(replies, {"http"} if failures else ())
                calls = [reply for reply in replies if reply.endpoint == "http"]
                phase.limit(calls, allowed, "an answer")
                seen = {reply.status for reply in calls if reply.status >= 500}
                phase.expect(seen == failures, f"http answered {seen}, not {failures}")
                back = perf_counter()
                await self._works(phase, clients, "http", WEATHER)
                phase.recovery = perf_counter() - back
                others = set(weather) - {"http"}
                before = (r for r in self._baseline if r.endpoint in others)
                phase.p99_before = percentile(before, 0.99)
                phase.p99 = percentile((r for r in replies if r.endpoint in others), 0.99)
                slowest = FACTOR * phase.p99_before
                phase.expect(
                    phase.p99 <= slowest, f"p99 of others {phase.p99:.3f} s, not {slowest:.3f}"
                )

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
            asked = perf_counter()
            running.terminate()
            code = await running.end()
            took = perf_counter() - asked
            ended.set()
            await visits
            self._upstream.mood = Mood.WELL

            answered = set(re.findall(rb'"request_id": "(drill-\d+)"', running.log.read_bytes()))
            accepted = self._upstream.seen | {name.decode() for name in answered}
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
                f" {len(unread)} sent but not read, ended after {took:.2f} s with {code}"
            )
            why = {reply.trouble for reply in lost}
            phase.expect(not lost, f"{len(lost)} accepted requests got no reply: {why}")
            phase.expect(len(in_flight) >= 50, f"only {len(in_flight)} were in flight")
            phase.limit((r for r in clients.replies if r.status), LATE + 2 * MARGIN, "an answer")
            phase.expect(code in (0, 143, -15), f"the exit code was {code}")
            phase.expect(took <= LATE + REFUSED, f"the end took {took:.2f} s")
            await self._idle(phase, {"postgres": 0, "mongo": 0, "redis": 0})

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

    async def _started_without_backends(self) -> None:
        async with self._phase("started without backends") as phase:
            backends = self._backends.values()
            await asyncio.gather(*(backend.kill() for backend in backends))
            async with self._service("alone") as running, client(running.url) as clients:
                live = await clients.send("live", get("/health/live"))
                ready = await clients.send("ready", get("/health/ready"))
                phase.expect(live.good, f"live answered {live.status}")
                phase.expect(ready.status == 503, f"ready answered {ready.status}")
                phase.limit([ready], READINESS_TIMEOUT + MARGIN, "ready")
                await asyncio.gather(*(backend.start() for backend in backends))
                back = perf_counter()
                while not (await clients.send("ready", get("/health/ready"))).good:
                    if perf_counter() > back + 2 * REFUSED:
                        break
                    await asyncio.sleep(0.02)
                phase.recovery = perf_counter() - back
                phase.expect(phase.recovery <= REFUSED, f"recovered after {phase.recovery:.2f} s")
                phase.count(clients.replies, {"ready"})
                await self._idle(phase, POOL_SIZES)

    async def _works(
        self,
        phase: Phase,
        clients: Client,
        name: str,
        call: Call,
        times: int = 10,
        allowed: float = MARGIN,
    ) -> None:
        """Check that an endpoint answers well, and at once, to many."""
        replies = await asyncio.gather(*(clients.send(name, call) for _ in range(times)))
        phase.count(replies)
        slowest = max(reply.seconds for reply in replies)
        phase.expect(slowest <= allowed, f"afterwards, {name} took {slowest:.2f} s")

    async def _idle(self, phase: Phase, allowed: Mapping[str, int]) -> None:
        """Check that the connections are idle again, and not more than the pools may have."""

        async def idle() -> bool:
            phase.left_open = await servers.connections(self._backends)
            return all(found.busy == 0 for found in phase.left_open.values())

        await servers.until(idle, REFUSED)
        for name, found in phase.left_open.items():
            phase.expect(not found.busy, f"{found.busy} connections to {name} are busy")
            # PyMongo watches the server on two connections of its own.
            most = allowed[name] + (2 if name == "mongo" and allowed[name] else 0)
            phase.expect(found.open <= most, f"{found.open} connections to {name}, not {most}")


def _concerned(backend: Backend) -> Collection[str]:
    return {backend.name, "ready"}


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


async def main(folder: Path) -> None:
    """Run the drill, and write what was seen."""
    began = perf_counter()
    # The one who measures must not pause, and what it leaves behind is little.
    gc.disable()
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(servers.backends(folder / "servers"))
        upstream = await stack.enter_async_context(Upstream().running())
        drill = Drill(backends, upstream, folder)
        await drill.run()
    result = {
        "seconds": round(perf_counter() - began, 1),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "phases": [phase.as_json() for phase in drill.phases],
    }
    (folder / "drill.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
