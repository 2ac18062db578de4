"""Jobs: how they get into the queue, how they run and fail, and what is known of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from dev import redis as kind
from dev.server import DevServer, Server
from orders.backends import redis
from orders.core.errors import BackendUnavailable
from orders.core.settings import InvalidSettings
from orders.jobs import __main__ as command
from orders.jobs.queue import DEAD, GROUP, LATER, STREAM, Retries, join, queue
from orders.jobs.worker import Scheduler, Worker
from quart import Quart
from taskiq import ScheduledTask
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.schedule_sources import LabelScheduleSource

CreateApp = Callable[[], Quart]
Logged = Callable[[], Awaitable[list[dict[str, Any]]]]


@queue.task(task_name="tests:echo")
async def echo(key: str) -> None:
    """Say that it ran."""
    await redis.client().rpush(key, "ran")


@queue.task(task_name="tests:fail", max_retries=2)
async def fail() -> None:
    """Fail each time."""
    raise LookupError("secret")


@queue.task(task_name="tests:hang", timeout=0.2, max_retries=1)
async def hang() -> None:
    """Take too long."""
    await asyncio.sleep(60)


@pytest.fixture
def own_redis(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


@pytest.fixture
async def sender(own_redis: Server, create_app: CreateApp) -> AsyncIterator[Quart]:
    """Serve an app that only sends jobs, with an empty queue."""
    app = create_app()
    app.add_url_rule("/echo/<key>", view_func=add, methods=["POST"])
    async with app.test_app(), app.app_context():
        yield app


@pytest.fixture
async def worker(
    own_redis: Server, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Quart]:
    """Serve an app that also runs jobs, and tries failed ones again at once."""
    monkeypatch.setenv("JOBS_WORKER", "true")
    monkeypatch.setenv("JOBS_TIMEOUT", "5")
    monkeypatch.setattr(Retries, "make_delay", lambda *_: 0.01)
    app = create_app()
    app.add_url_rule("/echo/<key>", view_func=add, methods=["POST"])
    async with app.test_app(), app.app_context():
        yield app


async def add(key: str) -> str:
    await echo.kiq(key)
    return "added"


async def ran(key: str) -> bool:
    return await redis.client().blpop([key], timeout=4) is not None


async def given_up() -> dict[str, str]:
    """Wait for a job that is given up, and return its entry."""
    for _ in range(100):
        found: Any = await redis.client().xrange(DEAD)
        if found:
            entry: dict[str, str] = found[0][1]
            return entry
        await asyncio.sleep(0.05)
    raise AssertionError("no job was given up")


async def test_a_job_has_the_id_of_its_request(worker: Quart, logged: Logged) -> None:
    await logged()
    headers = {"X-Request-ID": "asked-1"}
    await worker.test_client().post("/echo/a", headers=headers)
    assert await ran("a")

    for _ in range(50):
        lines = [line for line in await logged() if line["event"] == "job"]
        if lines:
            break
        await asyncio.sleep(0.02)
    (line,) = lines
    assert line["request_id"] == "asked-1"
    assert line["job"] == "tests:echo"
    assert (line["outcome"], line["attempt"]) == ("done", 1)
    assert line["job_id"]


async def test_a_job_that_is_done_leaves_nothing_behind(worker: Quart) -> None:
    for number in range(30):
        await echo.kiq(f"n{number}")
    for number in range(30):
        assert await ran(f"n{number}")
    async with asyncio.timeout(2):
        while await redis.client().xlen(STREAM):
            await asyncio.sleep(0.02)
    assert (await redis.client().xpending(STREAM, GROUP))["pending"] == 0


async def test_a_full_queue_answers_503(
    own_redis: Server, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_QUEUE_SIZE", "3")
    app = create_app()
    app.add_url_rule("/echo/<key>", view_func=add, methods=["POST"])
    async with app.test_app(), app.app_context():
        client = app.test_client()
        await echo.kicker().with_labels(delay=60).kiq("later")
        answers = await asyncio.gather(*(client.post(f"/echo/{key}") for key in "abcdefgh"))
        length = await redis.client().xlen(STREAM)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, *[503] * 6]
    assert length == 2
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["Retry-After"]
    assert refused.content_type == "application/problem+json"


async def test_without_redis_a_request_fails_with_503(sender: Quart, own_redis: Server) -> None:
    client = sender.test_client()
    assert (await client.post("/echo/a")).status_code == 200
    own_redis.kill()
    assert (await client.post("/echo/a")).status_code == 503
    assert (await client.get("/health/jobs")).status_code == 503


async def test_a_frozen_redis_is_waited_for_no_longer_than_elsewhere(
    own_redis: Server, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_TIMEOUT", "0.3")
    app = create_app()
    app.add_url_rule("/echo/<key>", view_func=add, methods=["POST"])
    async with app.test_app():
        client = app.test_client()
        assert (await client.post("/echo/a")).status_code == 200
        own_redis.freeze()
        async with asyncio.timeout(1):
            answer = await client.post("/echo/a")
        own_redis.thaw()
    assert answer.status_code == 503


async def test_a_short_timeout_does_not_disturb_a_worker_that_waits(
    own_redis: Server, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setenv("JOBS_WORKER", "true")
    monkeypatch.setenv("REDIS_TIMEOUT", "0.2")
    monkeypatch.setenv("REDIS_POOL_SIZE", "1")
    app = create_app()
    async with app.test_app(), app.app_context():
        await asyncio.sleep(1.5)
        await echo.kiq("a")
        async with asyncio.timeout(2):
            while not await redis.client().exists("a"):
                await asyncio.sleep(0.02)
    assert "queue unavailable" not in [line["event"] for line in await logged()]


async def test_what_cannot_be_sent_is_a_bug(sender: Quart) -> None:
    @sender.get("/wrong")
    async def wrong() -> str:
        await echo.kiq(object())  # type: ignore[call-overload]
        return "added"

    assert (await sender.test_client().get("/wrong")).status_code == 500


async def test_a_job_that_fails_each_time_is_given_up(
    worker: Quart, logged: Logged, capsys: pytest.CaptureFixture[str]
) -> None:
    await fail.kiq()

    entry = await given_up()

    assert entry["reason"] == "LookupError"
    lines = [line for line in await logged() if line["event"] == "job"]
    assert [(line["attempt"], line["outcome"]) for line in lines][:1] == [(1, "retry")]
    assert "secret" not in json.dumps(entry)
    await command.main(retry=False)
    assert json.loads(capsys.readouterr().out)["task_name"] == "tests:fail"


async def test_a_job_that_was_given_up_runs_again_on_demand(
    sender: Quart, capsys: pytest.CaptureFixture[str]
) -> None:
    job: dict[str, Any] = {"task_id": "1", "task_name": "tests:echo", "args": ["again"]}
    job |= {"labels": {"_retries": "9"}, "labels_types": {"_retries": 1}, "kwargs": {}}
    fields: dict[Any, Any] = {"message": json.dumps(job), "reason": "LookupError"}
    await redis.client().xadd(DEAD, fields)

    await command.main(retry=True)

    found: Any = await redis.client().xrange(STREAM)
    ((_, entry),) = found
    assert json.loads(entry["message"])["labels"] == {}
    assert await redis.client().xlen(DEAD) == 0


async def test_a_job_that_takes_too_long_is_cancelled(worker: Quart) -> None:
    await hang.kiq()
    assert (await given_up())["reason"] == "TimeoutError"


async def test_an_unknown_job_waits_for_a_newer_worker(
    sender: Quart, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes back to the queue when the older worker ends, as in a rollout."""
    client = redis.client()
    unknown: AsyncKicker[[], None] = AsyncKicker("of another version", queue, {})
    await join(client)
    await unknown.kiq()
    monkeypatch.setenv("JOBS_WORKER", "true")
    async with create_app().test_app():
        while not (await client.xpending(STREAM, GROUP))["pending"]:
            await asyncio.sleep(0.05)
        assert not await client.exists(DEAD)

    assert (await client.xpending(STREAM, GROUP))["pending"] == 0
    assert await client.xlen(STREAM) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [(echo.task_name, "its workers ended"), ("of before", "unknown job")]
)
async def test_a_job_that_no_worker_ends_is_given_up(
    name: str,
    reason: str,
    sender: Quart,
    create_app: CreateApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = redis.client()
    job: AsyncKicker[[str], None] = AsyncKicker(name, queue, {})
    await job.kiq("a")
    await client.xgroup_create(STREAM, GROUP, id="0")
    read: Any = await client.xreadgroup(GROUP, "gone", {STREAM: ">"})
    number = read[0][1][0][0]
    long_ago = {"idle": 10**9, "retrycount": 3}
    await client.xclaim(STREAM, GROUP, "gone", 0, [number], **long_ago)  # type: ignore[arg-type]
    monkeypatch.setenv("JOBS_WORKER", "true")
    async with create_app().test_app():
        assert (await given_up())["reason"] == reason
    assert not await client.exists("a")


async def test_a_job_can_wait(worker: Quart) -> None:
    await echo.kicker().with_labels(delay=1).kiq("late")
    assert await redis.client().zcard(LATER) == 1
    assert await redis.client().blpop(["late"], timeout=0.3) is None
    assert await ran("late")


async def test_one_of_two_equal_jobs_is_dropped(sender: Quart) -> None:
    for _ in range(2):
        await echo.kicker().with_labels(once="order-7").kiq("a")
    assert await redis.client().xlen(STREAM) == 1


async def test_a_schedule_of_days_adds_one_job_for_all_workers(sender: Quart) -> None:
    day = timedelta(days=1)
    task = ScheduledTask(
        task_name="tests:echo", labels={}, args=["a"], kwargs={}, interval=day, schedule_id="1"
    )
    for _ in range(2):
        await Scheduler(queue, []).on_ready(LabelScheduleSource(queue), task)

    client = redis.client()
    assert await client.xlen(STREAM) == 1
    (remembered,) = await client.keys(f"{STREAM}:once:*")
    # A worker that started hours after the other one comes hours later, in the same period.
    assert await client.ttl(remembered) > day.total_seconds() - 10


async def test_a_job_that_comes_while_a_worker_leaves_is_not_lost(
    sender: Quart, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.client()
    await join(client)
    await echo.kiq("a")
    worker = Worker(client, sender.extensions["jobs"])
    read = client.xreadgroup

    async def read_too_early(*args: Any, **options: Any) -> Any:
        found = await read(*args, **options)
        await read(GROUP, worker._name, {STREAM: ">"})
        return found

    monkeypatch.setattr(client, "xreadgroup", read_too_early)
    await worker._give_back()

    assert (await client.xpending(STREAM, GROUP))["pending"] == 1


async def test_the_state_of_the_queue_is_told(
    sender: Quart, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sender.test_client()
    for _ in range(2):
        await echo.kiq("a")
    await echo.kicker().with_labels(delay=60).kiq("a")
    await asyncio.sleep(0.3)

    told = await (await client.get("/health/jobs")).get_json()

    assert told.pop("oldest_s") >= 0.3
    assert told == {"waiting": 2, "running": 0, "later": 1, "dead": 0, "workers": 0}
    monkeypatch.setenv("JOBS_WORKER", "true")
    other = create_app()
    async with other.test_app():
        async with other.app_context():
            assert await ran("a")
            assert await ran("a")
            await asyncio.sleep(0.1)
        told = await (await other.test_client().get("/health/jobs")).get_json()
    assert told == {
        "waiting": 0,
        "running": 0,
        "later": 1,
        "dead": 0,
        "workers": 1,
        "oldest_s": 0.0,
    }


async def test_a_wrong_variable_stops_the_start(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_CONCURRENCY", "0")
    with pytest.raises(InvalidSettings, match=r"^JOBS_CONCURRENCY: "):
        create_app()


async def test_outside_of_a_request_an_error_says_what_failed(
    sender: Quart, own_redis: Server
) -> None:
    sender.extensions["jobs"].queue_size = 1
    await echo.kiq("a")
    with pytest.raises(SendTaskError) as raised:
        await echo.kiq("a")
    assert isinstance(raised.value.__cause__, BackendUnavailable)
