"""Jobs in traces: each is a part of the trace of its request, and the waits for jobs are none."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from opentelemetry.trace import SpanKind, StatusCode
from orders.backends import redis
from orders.jobs.queue import Retries, queue
from orders.tracing import jobs
from quart import Quart

from .conftest import Recorded


@queue.task(task_name="traced:work", max_retries=1)
async def work(key: str) -> None:
    """Run a command, and fail when there is no key."""
    await redis.client().rpush(key, "ran")
    assert key != "wrong"


@pytest.fixture
async def app(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch, recorded: Recorded
) -> AsyncIterator[Quart]:
    """Serve an app that runs jobs."""
    monkeypatch.setenv("JOBS_WORKER", "true")
    monkeypatch.setattr(jobs, "EVERY", 0.05)
    monkeypatch.setattr(Retries, "make_delay", lambda *_: 0.01)
    app = create_app()

    @app.post("/tasks/<key>")
    async def add(key: str) -> str:
        await work.kiq(key)
        return "added"

    async with app.test_app(), app.app_context():
        yield app


async def processed(recorded: Recorded) -> None:
    async with asyncio.timeout(5):
        while not recorded.spans("tracing.jobs"):
            await asyncio.sleep(0.02)


async def test_a_job_is_a_part_of_the_trace_of_its_request(app: Quart, recorded: Recorded) -> None:
    assert (await app.test_client().post("/tasks/right")).status_code == 200
    await processed(recorded)

    trace = recorded.trace_of("/tasks/right")

    spans = {span.name: span for span in trace}
    job = spans["process traced:work"]
    assert job.kind is SpanKind.CONSUMER
    assert job.parent
    assert job.parent.span_id == spans["POST /tasks/<key>"].context.span_id
    push = spans["RPUSH"]
    assert push.parent
    assert push.parent.span_id == job.context.span_id
    assert job.status.status_code is not StatusCode.ERROR


async def test_a_failed_job_is_an_error_without_its_text(app: Quart, recorded: Recorded) -> None:
    await app.test_client().post("/tasks/wrong")
    await processed(recorded)

    (job,) = recorded.spans("tracing.jobs")

    assert job.status.status_code is StatusCode.ERROR
    assert (job.attributes or {})["error.type"] == "AssertionError"


async def test_waiting_for_jobs_is_not_recorded(app: Quart, recorded: Recorded) -> None:
    await asyncio.sleep(1.3)

    names = {span.name for span in recorded.spans()}

    assert not names & {"XREADGROUP", "XPENDING", "XINFO GROUPS", "XLEN"}


async def test_jobs_and_their_queue_are_measured(app: Quart, recorded: Recorded) -> None:
    await app.test_client().post("/tasks/right")
    await processed(recorded)
    await asyncio.sleep(0.2)

    durations = recorded.points("messaging.process.duration")
    assert any("traced:work" in name for name in durations)
    assert set(recorded.points("jobs.count")) == {"waiting", "running", "later", "dead"}
    assert recorded.points("jobs.oldest")
