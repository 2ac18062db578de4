"""What is asked of MongoDB: a span for each command, with its name and without its content."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from opentelemetry.instrumentation.pymongo import CommandTracer, PymongoInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, TracerProvider
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent


@contextmanager
def instrumented(traces: TracerProvider, _meters: MeterProvider) -> Iterator[None]:
    """Trace PyMongo."""
    instrumentor = PymongoInstrumentor()
    commands = Commands()
    instrumentor.instrument(tracer_provider=traces, request_hook=commands.began)
    commands.listener = instrumentor._commandtracer_instance
    try:
        yield
    finally:
        instrumentor.uninstrument()
        # Else it would go on with this provider when it is used again.
        instrumentor._commandtracer_instance = None


class Commands:
    """Ends the spans of commands that are cancelled: PyMongo tells its listeners nothing of that.

    A task runs one command after the other, so that a new one, or the end of the task, means that
    the latest is over.
    """

    def __init__(self) -> None:
        """Begin without commands."""
        self.listener: CommandTracer | None = None
        self._latest: dict[asyncio.Task[object], CommandStartedEvent] = {}

    def began(self, _span: Span, event: CommandStartedEvent) -> None:
        """Note that the running task has begun a command."""
        task = asyncio.current_task()
        if task is None:
            return
        if task in self._latest:
            self._end(task)
        else:
            task.add_done_callback(self._end)
        self._latest[task] = event

    def _end(self, task: "asyncio.Task[object]") -> None:
        event = self._latest.pop(task)
        if self.listener:
            # Nothing happens when it has ended already.
            self.listener.failed(
                CommandFailedEvent(
                    timedelta(),
                    {"errmsg": "cancelled", "codeName": "cancelled"},
                    event.command_name,
                    event.request_id,
                    event.connection_id,
                    event.operation_id,
                )
            )
