"""Jobs: a span and a duration for each, in the trace of whoever asked for it, and their queue."""

import asyncio
from typing import Any

import structlog
from opentelemetry import context, metrics, propagate, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import SpanKind, Status, StatusCode
from quart import current_app
from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from ..jobs.queue import queue
from ..jobs.status import report
from ..jobs.worker import UNAVAILABLE, Worker

EVERY = 10.0
"""Seconds between two measurements of the queue."""

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600)
"""Bounds of the histogram, in seconds."""

log = structlog.stdlib.get_logger(__name__)


class TracedJobs(TaskiqMiddleware):
    """Records jobs. Each one runs in a task of its own, and so its span stays the current one."""

    def __init__(self) -> None:
        super().__init__()
        self._tracer = trace.get_tracer(__name__)
        self._durations = metrics.get_meter(__name__).create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of jobs.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Give the job the current trace."""
        propagate.inject(message.labels)
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Begin a span in that trace. Log lines get its ID."""
        parent = propagate.extract(message.labels)
        name = f"process {message.task_name}"
        span = self._tracer.start_span(name, parent, SpanKind.CONSUMER)
        context.attach(trace.set_span_in_context(span, parent))
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        structlog.contextvars.bind_contextvars(trace_id=trace_id)
        return message

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        """Note an error. A job that is given back has no other end."""
        span = trace.get_current_span()
        span.set_attribute(ERROR_TYPE, type(exception).__name__)
        span.set_status(Status(StatusCode.ERROR))
        if isinstance(exception, asyncio.CancelledError):
            span.end()

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """End the span."""
        trace.get_current_span().end()
        outcome: dict[str, str | bool] = {"job": message.task_name, "failed": result.is_err}
        self._durations.record(result.execution_time, outcome)


def instrument() -> None:
    """Record jobs, and not how a worker waits for them."""
    queue.add_middlewares(TracedJobs())
    next_job = Worker.next_job

    async def unrecorded(self: Worker) -> tuple[str, str]:
        with suppress_instrumentation():
            return await next_job(self)

    Worker.next_job = unrecorded  # type: ignore[method-assign]


async def measure() -> None:
    """Measure the queue until this is cancelled, if this process is a worker."""
    meter = metrics.get_meter(__name__)
    jobs = meter.create_gauge("jobs.count", unit="{job}", description="Jobs, by state.")
    oldest = meter.create_gauge("jobs.oldest", unit="s", description="Wait of the first job.")
    while current_app.extensions["jobs"].worker:
        await asyncio.sleep(EVERY)
        try:
            with suppress_instrumentation():
                told = await report()
        except UNAVAILABLE as error:
            log.warning("queue not measured", reason=type(error).__name__)
            continue
        for state in ("waiting", "running", "later", "dead"):
            jobs.set(getattr(told, state), {"state": state})
        oldest.set(told.oldest_s)
