"""Jobs, while workers and Redis are killed, frozen and replaced: none is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from . import servers
from .load import Call, Client, Load, client
from .parts import LEAD, MARGIN, Parts
from .phase import Phase
from .servers import Backend
from .service import Service

RATE = 50.0
"""Jobs that clients ask for in a second."""

SECONDS = 3.0
"""How long they do, after the fault has begun."""

JOBS_TIMEOUT = 1.0
LEASE = JOBS_TIMEOUT + 5.0
"""Seconds after which a job whose worker is gone belongs to another one, with the margin."""

CONCURRENCY = 20
"""Jobs that one worker runs at the same time, by default."""

REDIS_TIMEOUT = 1.0
FROZEN = 3.0

ADD = Call("POST", lambda number: f"/tasks/{number}")

Fault = Callable[["Fleet"], Awaitable[None]]


class Fleet:
    """A service that gets requests, two workers, and their Redis."""

    def __init__(self, redis: Backend, start: Callable[[], Awaitable[Service]]) -> None:
        """start: starts one more worker."""
        self.redis = redis
        self.start = start
        self.workers: list[Service] = []


class Jobs(Parts):
    """Everything that jobs depend on goes wrong, one after the other."""

    async def _jobs(self) -> None:
        for name, fault, may_repeat in (
            ("jobs", _nothing, 0),
            ("jobs with replaced workers", _replaced, 0),
            ("jobs with a killed worker", _killed, CONCURRENCY),
            ("jobs with a frozen worker", _frozen, CONCURRENCY),
            ("jobs with a killed Redis", _redis_killed, 2 * CONCURRENCY),
            ("jobs with a frozen Redis", _redis_frozen, 2 * CONCURRENCY),
        ):
            async with (
                self._phase(name) as phase,
                self._fleet(name) as (running, fleet),
                client(running.url) as clients,
            ):
                await self._under_load(phase, clients, fleet, fault)
                await self._none_lost(phase, clients, fleet, may_repeat)

    @asynccontextmanager
    async def _fleet(self, name: str) -> AsyncIterator[tuple[Service, Fleet]]:
        name = name.replace(" ", "-")
        redis = self._backends["redis"].with_data(self._folder / f"redis-{name}")
        async with AsyncExitStack() as stack:
            await redis.start()
            stack.push_async_callback(redis.stop)
            async with Redis.from_url(redis.url) as admin:
                # By default, Redis may lose the last second when its machine loses power, and when
                # it is killed while it waits for the disk.
                await admin.config_set("appendfsync", "always")
            variables = {
                "REDIS_URL": redis.url,
                "REDIS_TIMEOUT": str(REDIS_TIMEOUT),
                "JOBS_TIMEOUT": str(JOBS_TIMEOUT),
            }
            number = 0

            async def start() -> Service:
                nonlocal number
                number += 1
                worker = {**variables, "JOBS_WORKER": "true"}
                log = f"{name}-worker-{number}"
                return await stack.enter_async_context(self._service(log, worker))

            running = await stack.enter_async_context(self._service(name, variables))
            fleet = Fleet(redis, start)
            fleet.workers = [await start(), await start()]
            yield running, fleet

    async def _under_load(self, phase: Phase, clients: Client, fleet: Fleet, fault: Fault) -> None:
        async with Load(clients, {"jobs": (RATE, [ADD])}).running() as replies:
            await asyncio.sleep(LEAD)
            await asyncio.gather(asyncio.sleep(SECONDS), fault(fleet))
        phase.count(replies, {"jobs"} if "Redis" in phase.name else ())
        phase.limit(replies, REDIS_TIMEOUT + MARGIN, "an answer")

    async def _none_lost(
        self, phase: Phase, clients: Client, fleet: Fleet, may_repeat: int
    ) -> None:
        """Wait until all jobs that were accepted are done, and count those that ran twice."""
        accepted = {
            int(reply.request_id.removeprefix("drill-")) for reply in clients.replies if reply.good
        }
        async with Redis.from_url(fleet.redis.url, decode_responses=True) as redis:

            async def all_done() -> bool:
                with suppress(RedisError):
                    return accepted <= set(map(int, await redis.lrange("done", 0, -1)))
                return False

            # A job that has failed is tried again after up to 2 s.
            await servers.until(all_done, LEASE + 6)
            done = Counter(map(int, await redis.lrange("done", 0, -1)))
        lost = accepted - set(done)
        twice = [number for number, times in done.items() if times > 1]
        unasked = set(done) - accepted
        phase.lost += len(lost)
        phase.expect(not lost, f"{len(lost)} jobs were lost")
        phase.expect(len(twice) <= may_repeat, f"{len(twice)} jobs ran twice, not {may_repeat}")
        phase.notes.append(
            f"{len(accepted)} jobs accepted, {len(lost)} lost, {len(twice)} done twice,"
            f" {len(unasked)} done though the client got an error"
        )


async def _nothing(_: Fleet) -> None:
    pass


async def _replaced(fleet: Fleet) -> None:
    """Replace each worker as a rolling update does."""
    for old in list(fleet.workers):
        await fleet.start()
        old.terminate()
        await old.end()


async def _killed(fleet: Fleet) -> None:
    await asyncio.sleep(0.5)
    fleet.workers[0].kill()
    await fleet.workers[0].end()


async def _frozen(fleet: Fleet) -> None:
    await asyncio.sleep(0.5)
    fleet.workers[0].freeze()
    await asyncio.sleep(LEASE + 3)
    fleet.workers[0].thaw()


async def _redis_killed(fleet: Fleet) -> None:
    await asyncio.sleep(0.5)
    await fleet.redis.kill()
    await asyncio.sleep(1)
    await fleet.redis.start()


async def _redis_frozen(fleet: Fleet) -> None:
    await asyncio.sleep(0.5)
    await fleet.redis.freeze()
    await asyncio.sleep(FROZEN)
    await fleet.redis.thaw()
