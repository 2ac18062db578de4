"""Faults of the backends: killed, frozen, refusing, misbehaving, and away at the start."""

import asyncio
from collections.abc import Collection
from time import perf_counter

from .load import Load, Reply, client, get
from .parts import (
    ASK_ALL,
    CALM,
    LEAD,
    LOOP_FREE,
    MARGIN,
    MIX,
    OVERVIEW_TIMEOUT,
    POOL_SIZES,
    READINESS_TIMEOUT,
    REFUSED,
    TIMEOUT,
    WEATHER,
    Parts,
)
from .phase import Phase, percentile
from .servers import Backend, Mood, Refusal
from .service import Service

BASELINE = 3.0
SHORT = 1.0
DOWN = 1.8
FROZEN = 6.0

READS = {name: MIX[name][1][0] for name in ("postgres", "mongo", "redis")}
WRITES = {name: MIX[name][1][1] for name in ("postgres", "mongo", "redis")}

READS_AND_WRITES = {
    "live": MIX["live"],
    "http": MIX["http"],
    "ready": MIX["ready"],
    **{name: (12.0, [call]) for name, call in READS.items()},
    **{f"{name} writes": (12.0, [call]) for name, call in WRITES.items()},
}
"""The load, with an endpoint of its own for what writes."""

NEEDED_BY = {
    "postgres": {"postgres"},
    "mongo": {"mongo"},
    # The weather is cached in Redis. Without Redis it works, after a short wait for it.
    "redis": {"redis", "http"},
    "http": {"http"},
}
"""The endpoints that a fault of a backend concerns, besides those that ask all."""


PAUSE = 0.2
"""Seconds between two requests of a service that is hardly used."""

REQUIRED = {"postgres", "mongo"}
"""The backends without which the service is not ready, by default."""


class Faults(Parts):
    """Everything that the service depends on goes wrong, one after the other."""

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
                await asyncio.gather(asyncio.sleep(DOWN), _reported(phase, running, backend))
                await backend.start()
                back = perf_counter()
                await self._calm(replies, _concerned(backend), back)
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
                await asyncio.gather(asyncio.sleep(FROZEN), _reported(phase, running, backend))
                back = perf_counter()
                await backend.thaw()
                await self._calm(replies, _concerned(backend), back)
            self._check_fault(phase, replies, backend, (began, back))
            await self._idle(phase, POOL_SIZES)

    async def _calm(self, replies: list[Reply], endpoints: Collection[str], back: float) -> None:
        """Wait until these endpoints have answered well for a while."""
        while perf_counter() < back + REFUSED + 2 * CALM:
            await asyncio.sleep(0.05)
            concerned = [reply for reply in replies if reply.endpoint in endpoints]
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
        phase.count(replies, _concerned(backend))
        during = [reply for reply in replies if began < reply.ended <= back]

        phase.limit((r for r in replies if r.endpoint in needing), TIMEOUT + MARGIN, "an answer")
        for name, timeout in (("ready", READINESS_TIMEOUT), ("overview", OVERVIEW_TIMEOUT)):
            own = [reply for reply in replies if reply.endpoint == name]
            phase.limit(own, timeout + MARGIN, name)
        for name in _concerned(backend):
            hit = [r for r in during if r.endpoint == name and r.started > began]
            # A fault that nobody notices has not taken place.
            phase.expect(any(not r.good for r in hit), f"{name} said nothing of it in time")

        others = set(MIX) - needing - ASK_ALL
        self._check_others(phase, during, others)
        live = max(r.seconds for r in during if r.endpoint == "live")
        phase.expect(live <= LOOP_FREE, f"the event loop was busy for {live:.2f} s")

        after = [r for r in replies if r.endpoint in _concerned(backend) and r.started >= back]
        failed = [r.ended for r in after if not r.good]
        phase.recovery = max(failed or [min(r.ended for r in after)]) - back
        phase.expect(phase.recovery <= REFUSED, f"recovered after {phase.recovery:.2f} s")

    async def _refusing(self, running: Service, refusal: Refusal) -> None:
        """Let a backend refuse, as after a failover. Refused requests get a 503, and no others."""
        url = self._backends[refusal.backend].url
        async with self._phase(refusal.name) as phase, client(running.url) as clients:
            # Every connection of the pool meets the refusal, and must not keep it.
            await asyncio.gather(
                *(clients.send("reads", READS[refusal.backend]) for _ in range(20))
            )
            clients.replies.clear()
            async with Load(clients, READS_AND_WRITES).running() as replies:
                await asyncio.sleep(LEAD)
                async with refusal.applied(url):
                    began = perf_counter()
                    await asyncio.sleep(SHORT)
                    steady = perf_counter()
                    await asyncio.gather(
                        *(clients.send("reads", READS[refusal.backend]) for _ in range(20))
                    )
                back = perf_counter()
            writes = f"{refusal.backend} writes"
            concerned = {writes}
            if refusal.of_reads:
                concerned |= {"reads", *_concerned(self._backends[refusal.backend])}
            phase.count(replies, concerned)
            refused = [reply for reply in replies if not reply.good]
            statuses = {reply.status for reply in refused}
            phase.expect(statuses == {503}, f"refusals were answered with {statuses}")
            hit = [r for r in refused if r.endpoint == writes and began < r.ended <= steady]
            phase.expect(bool(hit), "no write was refused")
            phase.limit(refused, REFUSED, "a refusal")
            others = set(MIX) - ASK_ALL - {refusal.backend}
            self._check_others(phase, (r for r in replies if began < r.ended <= steady), others)

            # Few requests come now: no connection may wait for one to find out that it must go.
            call = WRITES[refusal.backend]
            while not (reply := await clients.send(writes, call)).good:
                phase.count([reply], {writes})
                if perf_counter() > back + 2 * REFUSED:
                    break
                await asyncio.sleep(PAUSE)
            phase.recovery = perf_counter() - back
            phase.expect(phase.recovery <= REFUSED, f"recovered after {phase.recovery:.2f} s")
            await self._works(phase, clients, writes, call, 20)
            await self._idle(phase, POOL_SIZES)

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
                self._check_others(phase, replies, set(weather) - {"http"})

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


def _concerned(backend: Backend) -> set[str]:
    """Return the endpoints that may fail without a backend."""
    return {backend.name, "ready"} if backend.name in REQUIRED else {backend.name}


async def _reported(phase: Phase, running: Service, backend: Backend) -> None:
    """Check that the readiness check names a backend that does not work."""
    report = await running.readiness()
    status = report["backends"][backend.name]["status"]
    phase.expect(status == "unavailable", f"/health/ready reported {backend.name} as {status}")
