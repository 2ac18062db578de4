"""What all parts of the drill share: its limits, its load, the service, and checks after a part."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

from . import servers, service
from .load import Call, Client, Reply, get, post
from .phase import Phase, percentile
from .servers import Backend, Upstream
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
"""Seconds within which a request fails when its backend is down, and works when it is back. The
service takes no longer to close its clients when it stops."""

FACTOR = 3.0
"""How much slower unaffected endpoints may become during a fault, at the 99th percentile."""

LOOP_FREE = 0.5
"""Seconds that the liveness check, which waits for nothing, may take at most."""

LEAD = 0.3
CALM = 0.8
"""Seconds without a failure after which a backend counts as recovered."""

ENDED_BY_SIGTERM = {0, 143, -15}
"""Exit codes of a service that ended in good order."""


def city(number: int) -> str:
    """Return a name that no request has used yet, so that no cache knows it."""
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
"""The requests of the load, and how many of them are sent in a second."""

ASK_ALL = {"ready", "overview"}
"""Endpoints that ask all backends, and have shorter timeouts of their own."""


class Parts:
    """The servers, the upstream, and what was seen so far."""

    def __init__(self, backends: dict[str, Backend], upstream: Upstream, folder: Path) -> None:
        """folder: for the logs of the service."""
        self._backends = backends
        self._upstream = upstream
        self._folder = folder
        self._baseline: list[Reply] = []
        self.phases: list[Phase] = []

    @asynccontextmanager
    async def _service(
        self,
        name: str,
        changed: Mapping[str, str] | None = None,
        *,
        open_files: int | None = None,
        stderr: int | None = None,
    ) -> AsyncIterator[Service]:
        log = self._folder / f"{name}.log"
        urls = {backend.variable: backend.url for backend in self._backends.values()}
        environment = urls | dict(changed or {})
        async with service.running(
            log, environment, open_files=open_files, stderr=stderr
        ) as running:
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

    def _check_others(self, phase: Phase, replies: Iterable[Reply], others: set[str]) -> None:
        """Check that endpoints that a fault does not concern are about as fast as before."""
        before = (reply for reply in self._baseline if reply.endpoint in others)
        phase.p99_before = percentile(before, 0.99)
        phase.p99 = percentile((r for r in replies if r.endpoint in others), 0.99)
        slowest = FACTOR * phase.p99_before
        phase.expect(phase.p99 <= slowest, f"p99 of others {phase.p99:.3f} s, not {slowest:.3f}")

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
