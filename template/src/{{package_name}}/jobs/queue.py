"""The queue: how jobs get to the workers. It is a stream in Redis, and taskiq's broker for it.

    from .queue import queue

    @queue.task(timeout=20)
    async def send_invoice(number: int) -> None: ...

    await invoices.send_invoice.kiq(7)  # in a handler or in a job

A job is delivered at least once: it leaves the stream when it is done, and not before.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from random import uniform
from typing import Any, Protocol

import structlog
from pydantic import PositiveInt
from pydantic_settings import SettingsConfigDict
from quart import current_app
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import (
    AckableMessage,
    AsyncBroker,
    BrokerMessage,
    SmartRetryMiddleware,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.exceptions import NoResultError

from ..backends import redis
from ..core import PROJECT, logs
from ..core.errors import BackendUnavailable
from ..core.settings import EnvSettings, Seconds

STREAM = f"{PROJECT['Name']}:jobs"
"""The key of the jobs that wait or run."""

LATER = f"{STREAM}:later"
"""The key of the jobs that wait for their time: a sorted set."""

DEAD = f"{STREAM}:dead"
"""The key of the jobs that were given up: a stream."""

GROUP = "workers"
"""The group that shares the stream: each job goes to one of its members."""

KEPT = 10_000
"""Jobs in DEAD. Older ones are deleted."""

ONCE_FOR = 3600
"""Seconds for which the queue remembers a label `once`."""

ATTEMPTS = 10
"""Runs of a job that fails each time. They take 9 to 17 minutes in all."""

LONGEST_DELAY = 600.0
"""Seconds between two attempts, at most."""

ENQUEUE = """\
local stream, later, once = unpack(KEYS)
local message, limit, delay = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local remembered = ARGV[4]
if limit > 0 and redis.call('XLEN', stream) + redis.call('ZCARD', later) >= limit then return 0 end
if once and not redis.call('SET', once, '', 'NX', 'EX', remembered) then return 1 end
if delay > 0 then
  redis.call('ZADD', later, redis.call('TIME')[1] + delay, message)
else
  redis.call('XADD', stream, '*', 'message', message)
end
return 1
"""
"""Adds a job unless the queue is full, which two commands could not do exactly."""

log = structlog.stdlib.get_logger(__name__)


class JobsSettings(EnvSettings):
    """The variables that begin with JOBS_."""

    model_config = SettingsConfigDict(env_prefix="JOBS_")

    worker: bool = False
    """Whether this process runs jobs, too."""

    concurrency: PositiveInt = 20
    """Jobs that one worker runs at the same time."""

    timeout: Seconds = 60.0
    """Seconds that a job may take, unless it has a timeout of its own."""

    grace: Seconds = 10.0
    """Seconds that running jobs get when a worker stops. After that they go back to the queue."""

    queue_size: PositiveInt = 10_000
    """Jobs that may wait or run. A client that needs one more gets a 503."""


class Worker(Protocol):
    """What the queue knows of the worker in this process."""

    def messages(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the jobs to run."""


class Queue(AsyncBroker):
    """taskiq's broker, which sends through the service's own client: bounded and fair.

    The label `delay` means so many seconds later. Of two jobs with the same label `once`, the
    second one is dropped if it comes within an hour, or the seconds of the label `once_for`.
    """

    async def kick(self, message: BrokerMessage) -> None:
        """Add a job; raises BackendUnavailable when the queue is full, or an error of Redis."""
        labels = message.labels
        # A job that was accepted is not refused when it is tried again.
        is_retry = "_retries" in labels
        limit = 0 if is_retry else current_app.extensions["jobs"].queue_size
        once = [f"{STREAM}:once:{labels['once']}"] if "once" in labels and not is_retry else []
        keys = [STREAM, LATER, *once]
        remembered = labels.get("once_for", ONCE_FOR)
        values = [message.message.decode(), limit, labels.get("delay", 0), remembered]
        if not await redis.client().eval(ENQUEUE, len(keys), *keys, *values):
            raise BackendUnavailable("the queue of jobs is full")

    def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the jobs to run in this process."""
        worker: Worker = current_app.extensions["worker"]
        return worker.messages()


class Conduct(TaskiqMiddleware):
    """A job has the request ID of whoever asked for it, a time limit, and a line in the log."""

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Add the ID of the current request."""
        message.labels["request_id"] = logs.current_request_id()
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Begin to log with that ID."""
        structlog.contextvars.clear_contextvars()
        logs.start_request(message.labels.get("request_id", ""))
        attempt = int(message.labels.get("_retries", 0)) + 1
        structlog.contextvars.bind_contextvars(job_id=message.task_id, attempt=attempt)
        message.labels.setdefault("timeout", current_app.extensions["jobs"].timeout)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Log how it ended."""
        again = isinstance(result.error, NoResultError)
        log.info(
            "job",
            job=message.task_name,
            outcome="retry" if again else "failed" if result.is_err else "done",
            duration_ms=round(result.execution_time * 1000),
        )


class Retries(SmartRetryMiddleware):
    """taskiq's retries, with waits that double, and a place for jobs that are given up."""

    def make_delay(self, message: TaskiqMessage, retries: int) -> float:
        """Return the seconds until the next attempt; retries: attempts so far."""
        # Jobs that failed together are not tried again together.
        return uniform(0.5, 1) * min(2.0**retries, LONGEST_DELAY)  # noqa: S311

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        """Try the job again later, or give it up after its last attempt."""
        if isinstance(exception, asyncio.CancelledError):
            # The worker stops, and gives the job back: nothing may acknowledge it.
            raise exception
        await super().on_error(message, result, exception)
        if not isinstance(result.error, NoResultError):
            text = self.broker.formatter.dumps(message).message.decode()
            await give_up(text, type(exception).__name__)


async def join(client: Redis) -> None:
    """Make the stream and the group of all workers, if they are not there."""
    with suppress(ResponseError):
        await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)


async def give_up(message: str, reason: str) -> None:
    """Put a job where people can look at it, and have it run again."""
    await redis.client().xadd(DEAD, {"message": message, "reason": reason}, maxlen=KEPT)
    log.error("job given up", reason=reason)


queue = Queue().with_middlewares(
    Conduct(), Retries(default_retry_count=ATTEMPTS, default_retry_label=True)
)
"""The queue of this service."""
