"""The worker: a process of the service that runs jobs, with its clients, settings and logs.

With JOBS_WORKER=true, a process takes jobs from the queue for as long as it serves.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from math import ceil
from time import monotonic, time
from typing import Any
from uuid import uuid4

import structlog
from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq import AckableMessage, ScheduledTask, ScheduleSource, TaskiqScheduler
from taskiq.api import run_scheduler_task
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.receiver import Receiver
from taskiq.schedule_sources import LabelScheduleSource

from ..backends import redis
from ..core import errors
from ..core.errors import BackendUnavailable
from ..core.settings import load
from . import MODULES
from . import status as state
from .queue import GROUP, LATER, ONCE_FOR, STREAM, JobsSettings, give_up, join, queue

POLL = 1.0
"""Seconds that a worker waits for a new job, before it looks for those of other kinds."""

MARGIN = 5.0
"""Seconds after the longest timeout of a job, when its worker must be gone."""

DELIVERIES = 3
"""Workers that a job may take down with it. Then it is given up."""

FORGOTTEN = 24 * 3600 * 1000
"""Milliseconds after which the name of a worker that is gone is removed."""

CLOSE_TIMEOUT = 1.0
"""Seconds that cancelled jobs may take to end, and then that giving jobs back may take."""

UNAVAILABLE = (RedisError, BackendUnavailable)

FULL: errors.Failures = {BackendUnavailable: HTTPStatus.SERVICE_UNAVAILABLE}
"""The queue, or the pool of connections."""

MOVE_DUE = """\
local now = redis.call('TIME')[1]
for _, message in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  redis.call('XADD', KEYS[2], '*', 'message', message)
  redis.call('ZREM', KEYS[1], message)
end
"""

LEAVE = """\
local stream, group, name = KEYS[1], ARGV[1], ARGV[2]
if #redis.call('XPENDING', stream, group, '-', '+', 1, name) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
end
"""
"""Removes a worker, unless Redis has just given it a job: that one would be lost."""

log = structlog.stdlib.get_logger(__name__)


def init_app(app: Quart) -> None:
    """Let the app send jobs; raises InvalidSettings when the environment is wrong."""
    app.extensions["jobs"], own = load(JobsSettings, redis.RedisSettings)
    # The connection that waits for jobs is none of those that handlers and jobs share.
    longer = {"pool_size": 4, "timeout": own.timeout + POLL}
    app.extensions["jobs_redis"] = own.model_copy(update=longer)
    # `Conduct` logs one line for each job.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    app.register_blueprint(state.blueprint)
    errors.init_app(app, {SendTaskError: status_of})


def status_of(error: Exception) -> HTTPStatus:
    """Return the status for a job that was not sent: that of the error behind it."""
    cause = error.__cause__
    for kind, status in {**redis.BACKEND.failures, **FULL}.items():
        if isinstance(cause, kind):
            return status(cause) if callable(status) else status
    return HTTPStatus.INTERNAL_SERVER_ERROR


@asynccontextmanager
async def running(app: Quart) -> AsyncIterator[None]:
    """Run jobs for the length of the block, if this process is a worker."""
    settings: JobsSettings = app.extensions["jobs"]
    if not settings.worker:
        yield
        return
    async with redis.connect(app.extensions["jobs_redis"]) as client:
        worker = app.extensions["worker"] = Worker(client, settings)
        async with worker.working():
            yield


class Worker:
    """Takes jobs from the stream, and runs them."""

    def __init__(self, client: Redis, settings: JobsSettings) -> None:
        """client: one whose commands may take POLL longer than others."""
        self._client = client
        self._settings = settings
        self._name = uuid4().hex
        self._look_at = 0.0
        timeouts = [task.labels.get("timeout", 0) for task in queue.get_all_tasks().values()]
        self._lease = max(settings.timeout, *timeouts) + MARGIN

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run jobs. At the end, wait for those that run, or give them back."""
        runner = Runner(self._settings)
        stop = asyncio.Event()
        listening = asyncio.create_task(runner.listen(stop))
        scheduler = Scheduler(queue, [LabelScheduleSource(queue)])
        scheduling = asyncio.create_task(run_scheduler_task(scheduler))
        log.info("worker started", modules=[module.__name__ for module in MODULES])
        try:
            yield
        finally:
            scheduling.cancel()
            stop.set()
            await listening
            for task in runner.running:
                task.cancel()
            if runner.running:
                _, late = await asyncio.wait(runner.running, timeout=CLOSE_TIMEOUT)
                if late:
                    log.warning("jobs not cancelled in time", jobs=len(late))
            await self._give_back()

    async def messages(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield jobs as they come, also after Redis was away."""
        while True:
            try:
                await join(self._client)
                await self._forget_workers()
                while True:
                    number, message = await self.next_job()
                    if is_known(message):
                        ack = partial(self._finish, number)
                        yield AckableMessage(data=message.encode(), ack=ack)
                    else:
                        # A newer version may know it: the next worker gets it.
                        log.warning("unknown job left to the next worker", number=number)
            except Exception as error:  # whatever the reason, the worker goes on
                log.warning("queue unavailable", reason=type(error).__name__)
                await asyncio.sleep(POLL)

    async def _forget_workers(self) -> None:
        """Remove the names of workers that were killed long ago."""
        known: Any = await self._client.xinfo_consumers(STREAM, GROUP)
        for one in known:
            if one["idle"] > FORGOTTEN and not one["pending"]:
                await self._client.xgroup_delconsumer(STREAM, GROUP, one["name"])

    async def next_job(self) -> tuple[str, str]:
        """Wait for a job; returns its number in the stream, and its text."""
        while True:
            if monotonic() >= self._look_at:
                await self._client.eval(MOVE_DUE, 2, LATER, STREAM)
                if abandoned := await self._abandoned():
                    return abandoned
                self._look_at = monotonic() + POLL
            block = int(POLL * 1000)
            # redis-py has a type for this that fits all its versions, and no code.
            found: Any = await self._client.xreadgroup(
                GROUP, self._name, {STREAM: ">"}, count=1, block=block
            )
            for _, entries in found:
                for number, fields in entries:
                    return number, fields["message"]

    async def _abandoned(self) -> tuple[str, str] | None:
        """Take over a job whose worker is gone, if there is one."""
        lease = int(self._lease * 1000)
        late: Any = await self._client.xpending_range(STREAM, GROUP, "-", "+", 1, idle=lease)
        for entry in late:
            claimed: Any = await self._client.xclaim(
                STREAM, GROUP, self._name, lease, [entry["message_id"]]
            )
            for number, fields in claimed:
                if entry["times_delivered"] < DELIVERIES:
                    log.warning("job taken over", delivery=entry["times_delivered"] + 1)
                    return number, fields["message"]
                known = is_known(fields["message"])
                await give_up(fields["message"], "its workers ended" if known else "unknown job")
                await self._finish(number)
        return None

    async def _finish(self, number: str) -> None:
        """Take a job out of the stream. While Redis is away, try again: else it would run twice."""
        async with asyncio.timeout(self._lease):
            while True:
                with suppress(*UNAVAILABLE):
                    await self._remove(number)
                    return
                await asyncio.sleep(POLL)

    async def _remove(self, number: str, again: str | None = None) -> None:
        async with self._client.pipeline() as commands:
            if again:
                commands.xadd(STREAM, {"message": again})
            commands.xack(STREAM, GROUP, number)
            commands.xdel(STREAM, number)
            await commands.execute()

    async def _give_back(self) -> None:
        """Put what this worker has not done at the end of the queue."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                left: Any = await self._client.xreadgroup(GROUP, self._name, {STREAM: "0"})
                for _, entries in left:
                    for number, fields in entries:
                        log.info("job given back", number=number)
                        await self._remove(number, again=fields["message"])
                await self._client.eval(LEAVE, 1, STREAM, GROUP, self._name)
        except (*UNAVAILABLE, TimeoutError) as error:
            # Another worker takes them over when their time is up.
            log.warning("jobs not given back", reason=type(error).__name__)


class Runner(Receiver):
    """taskiq's receiver, which knows what it runs."""

    def __init__(self, settings: JobsSettings) -> None:
        super().__init__(
            queue,
            run_startup=False,
            max_async_tasks=settings.concurrency,
            wait_tasks_timeout=settings.grace,
        )
        self.running: set[asyncio.Task[None]] = set()

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        """Run a job."""
        task = asyncio.create_task(super().callback(message, raise_err))
        self.running.add(task)
        try:
            await task
        except Exception as error:
            # It stays in the stream, whatever the reason, and so it runs again.
            log.warning("job not finished", reason=type(error).__name__)
        finally:
            self.running.discard(task)


class Scheduler(TaskiqScheduler):
    """taskiq's scheduler. Each worker has one, and the queue takes only one job of them all."""

    async def on_ready(self, source: ScheduleSource, task: ScheduledTask) -> None:
        """Add a job whose time has come. While Redis is away, try again for a minute."""
        period = task.interval or 60
        seconds = period.total_seconds() if isinstance(period, timedelta) else period
        once = f"{task.task_name}:{task.args}:{task.kwargs}:{time() // seconds:.0f}"
        kicker: AsyncKicker[Any, Any] = AsyncKicker(task.task_name, self.broker, task.labels)
        # Workers that started at other times come at other times of the same period.
        kicker = kicker.with_labels(once=once, once_for=max(ONCE_FOR, ceil(seconds)))
        for _ in range(60):
            with suppress(SendTaskError):
                await kicker.kiq(*task.args, **task.kwargs)
                return
            await asyncio.sleep(1)
        log.error("scheduled job not added", job=task.task_name)


def is_known(message: str) -> bool:
    """Return whether this version of the service has the job of a message."""
    with suppress(ValueError):
        return queue.find_task(queue.formatter.loads(message.encode()).task_name) is not None
    return False
