"""Workers in processes of their own: stopped, killed, frozen, and without Redis for a while."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dev import redis as kind
from dev.server import Server
from redis import Redis

from .process import Process, wait_until

ENDPOINTS = """
from orders.backends import redis
from orders.jobs.queue import queue

@queue.task(task_name="work")
async def work(name, seconds):
    await redis.client().rpush("began", name)
    await asyncio.sleep(seconds)
    await redis.client().rpush("ended", name)

@queue.task(task_name="tick", schedule=[{"interval": 1}])
async def tick():
    await redis.client().rpush("ticks", time.time())

@queue.task(task_name="stay")
async def stay():
    await redis.client().rpush("began", "stay")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

@app.get("/stay")
async def add_stay():
    await stay.kiq()
    return "added"

@app.get("/add/<name>/<float:seconds>")
async def add(name, seconds):
    await work.kiq(name, seconds)
    return "added"
"""

LEASE = 6.0
"""JOBS_TIMEOUT=1, and the margin of 5 s."""

StartWorker = Callable[..., Process]


class Own:
    """A server that keeps its data, and that the test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server: Server = kind.start(folder, durable=True)

    def restart(self) -> None:
        """Start it after it was killed, where it was."""
        self.server = kind.start(self._folder, durable=True, port=self.server.port)

    def seen(self, key: str) -> list[str]:
        """Return what jobs have noted."""
        with Redis.from_url(self.server.url, decode_responses=True) as client:
            found: Any = client.lrange(key, 0, -1)
            return list(found)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Start a server that only this test uses."""
    own = Own(tmp_path / "redis")
    monkeypatch.setenv("REDIS_URL", own.server.url)
    monkeypatch.setenv("JOBS_TIMEOUT", "1")
    yield own
    own.server.thaw()
    own.server.stop()


@pytest.fixture
def start(own: Own, serve: StartWorker) -> StartWorker:
    """Return a function that starts a worker, which also has an endpoint that adds jobs."""
    return lambda **variables: serve(ENDPOINTS, **({"JOBS_WORKER": "true"} | variables))


def test_a_worker_that_stops_finishes_or_gives_back(own: Own, start: StartWorker) -> None:
    worker = start(JOBS_GRACE="0.5", JOBS_TIMEOUT="20")
    worker.ask("/add/short/0.3")
    worker.ask("/add/long/2.0")
    wait_until(lambda: len(own.seen("began")) == 2)

    seconds = worker.stop()

    assert seconds < 1.5
    assert own.seen("ended") == ["short"]
    start(JOBS_TIMEOUT="20")
    wait_until(lambda: own.seen("ended") == ["short", "long"], 5)
    assert own.seen("began") == ["short", "long", "long"]


def test_a_job_that_cannot_be_cancelled_does_not_hold_up_the_end(
    own: Own, start: StartWorker
) -> None:
    worker = start(JOBS_GRACE="0.5", JOBS_TIMEOUT="20")
    worker.ask("/stay")
    wait_until(lambda: own.seen("began") == ["stay"])

    assert worker.stop() < 4
    start(JOBS_TIMEOUT="20")
    wait_until(lambda: own.seen("began") == ["stay", "stay"], 5)


def test_the_jobs_of_a_killed_worker_are_taken_over(own: Own, start: StartWorker) -> None:
    worker = start()
    for number in range(5):
        worker.ask(f"/add/{number}/0.9")
    wait_until(lambda: len(own.seen("began")) == 5)

    worker.popen.kill()
    start()

    took = wait_until(lambda: len(own.seen("ended")) == 5, LEASE + 5)
    assert sorted(own.seen("ended")) == ["0", "1", "2", "3", "4"]
    assert took < LEASE + 3


def test_a_frozen_worker_loses_nothing(own: Own, start: StartWorker) -> None:
    worker = start()
    worker.ask("/add/a/0.9")
    wait_until(lambda: own.seen("began") == ["a"])

    worker.popen.send_signal(signal.SIGSTOP)
    other = start()
    other.ask("/add/b/0.0")
    # Redis may have given the frozen one this job, too.
    wait_until(lambda: {"a", "b"} <= {*own.seen("ended")}, LEASE + 5)
    worker.popen.send_signal(signal.SIGCONT)

    # It goes on where it was, and so this job runs twice, as the guide says.
    wait_until(lambda: own.seen("ended").count("a") == 2)
    assert worker.stop() < 3


def test_jobs_go_on_when_redis_comes_back(own: Own, start: StartWorker) -> None:
    worker = start(JOBS_TIMEOUT="10")
    worker.ask("/add/before/0.5")
    wait_until(lambda: own.seen("began") == ["before"])

    own.server.kill()
    wait_until(lambda: worker.ask("/add/during/0.0")[0] == 503)
    own.restart()

    wait_until(lambda: worker.ask("/add/after/0.0")[0] == 200)
    wait_until(lambda: "after" in own.seen("ended"))
    assert "during" not in own.seen("began")
    # Its own command may have failed. Then it is tried again.
    wait_until(lambda: "before" in own.seen("ended"))


def test_a_job_that_ends_while_redis_is_frozen_does_not_run_again(
    own: Own, start: StartWorker
) -> None:
    worker = start(REDIS_TIMEOUT="0.5")
    worker.ask("/add/a/0.2")
    wait_until(lambda: own.seen("began") == ["a"])

    own.server.freeze()
    wait_until(lambda: worker.log("queue unavailable"))
    own.server.thaw()

    wait_until(lambda: worker.ask("/add/b/0.0")[0] == 200)
    wait_until(lambda: "b" in own.seen("ended"))
    wait_until(lambda: "a" in own.seen("ended"), LEASE + 3)


def test_a_worker_ends_while_redis_is_frozen(own: Own, start: StartWorker) -> None:
    worker = start(JOBS_GRACE="0.5")
    worker.ask("/add/a/60.0")
    wait_until(lambda: own.seen("began") == ["a"])

    own.server.freeze()
    seconds = worker.stop()
    own.server.thaw()

    assert seconds < 5
    assert worker.log("jobs not given back")


def test_a_scheduled_job_runs_once_for_all_workers(own: Own, start: StartWorker) -> None:
    start()
    start()
    wait_until(lambda: len(own.seen("ticks")) >= 2)

    def times() -> list[float]:
        return [float(time) for time in own.seen("ticks")]

    wait_until(lambda: times()[-1] - times()[0] >= 8)
    seen = times()
    # On a busy machine, some run late. Twice would be 16.
    assert len(seen) <= seen[-1] - seen[0] + 4
