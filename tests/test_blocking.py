"""Calls that block the event loop: services refuse them in their linter, tests and development."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import BACKENDS, generate, name_of, register, run, uv
from ruff import find_ruff_bin  # type: ignore[import-untyped]
from running import ask, dev, free_port, wait_for

BLOCKING = {
    "": {
        "import time; time.sleep(1)": "asyncio.sleep()",
        "from time import sleep": "asyncio.sleep()",
        "import subprocess": "asyncio.create_subprocess_exec()",
        "from subprocess import run": "asyncio.create_subprocess_exec()",
        "import os; os.system('true')": "asyncio.create_subprocess_exec()",
        "import socket; socket.getaddrinfo('a', 1)": "asyncio.get_running_loop().getaddrinfo()",
        "import requests": "",
        "import urllib.request": "",
        "from urllib import request": "",
        "import urllib3": "",
        "import http.client": "",
        "import httpx; httpx.Client()": "",
    },
    "postgres": {
        "import psycopg2": "postgres.pool()",
        "from psycopg2.extras import RealDictCursor": "postgres.pool()",
        "import psycopg": "postgres.pool()",
        "import pg8000.dbapi": "postgres.pool()",
        "from sqlalchemy import create_engine": "postgres.pool()",
    },
    "mongo": {
        "from pymongo import MongoClient": "mongo.database()",
        "import pymongo; pymongo.MongoClient()": "mongo.database()",
        "from pymongo.mongo_client import MongoClient": "mongo.database()",
        "from pymongo.synchronous.database import Database": "mongo.database()",
        "import mongoengine": "mongo.database()",
    },
    "redis": {
        "import redis; redis.Redis()": "redis.client()",
        "from redis import Redis": "redis.client()",
        "from redis import StrictRedis": "redis.client()",
        "from redis.client import Redis": "redis.client()",
        "from redis import from_url": "redis.client()",
        "import valkey": "redis.client()",
    },
    "http": {"import requests": "http.session()", "import urllib.request": "http.session()"},
}
"""Code that the linter refuses: in every service and by backend, and what it is to use instead."""


@pytest.mark.parametrize(
    "backends", [[], *([backend] for backend in BACKENDS), list(BACKENDS)], ids=name_of
)
def test_the_linter_refuses_what_blocks(backends: Sequence[str], tmp_path: Path) -> None:
    """It names what to use instead in this service."""
    project = generate(tmp_path / "orders", backends)
    expected = [
        (code, use) for key in ("", *backends) for code, use in BLOCKING.get(key, {}).items()
    ]
    for number, (code, _) in enumerate(expected):
        for folder in ("src/orders", "dev"):
            (project / folder / f"blocks{number}.py").write_text(f"{code}\n")

    found = run(
        *(find_ruff_bin(), "check", "--no-cache", "--select=TID251", "--output-format=concise"),
        cwd=project,
        check=False,
    ).output

    for number, (code, use) in enumerate(expected):
        messages = re.findall(rf"src/orders/blocks{number}\.py:.*TID251 (.*)", found)
        assert messages, f"{code} passes"
        assert all(use in message for message in messages), messages
    assert "dev/" not in found


OFFENCES = {
    "sleeps": "time.sleep(0.01)",
    "sleeps_below": "nap()",
    "requests": "requests.get(UPSTREAM)",
    "urllib": "urllib.request.urlopen(UPSTREAM)",
    "resolves": "socket.getaddrinfo('localhost', 80)",
    "opens": "open(__file__).read()",
    "runs": "subprocess.run(['true'])",
    "psycopg2": "psycopg2.connect(POSTGRES)",
    "psycopg2_executes": "CURSOR.execute('SELECT 1')",
    "psycopg": "psycopg.connect(POSTGRES)",
    "psycopg_executes": "CONNECTION.execute('SELECT 1')",
    "pymongo": "pymongo.MongoClient(MONGO).db.things.find_one()",
    "redis": "redis.Redis.from_url(REDIS).get('key')",
    "acquires": "LOCK.acquire(timeout=0.01)",
    "swallows": "swallow(time.sleep)",
    "spawns": "await asyncio.create_task(late())",
}
"""What handlers do that is found in tests: the one line of each that is to be named."""

HANDLERS = """
import asyncio, os, socket, subprocess, threading, time, urllib.request
import psycopg, psycopg2, pymongo, redis, requests

POSTGRES, MONGO = os.environ["DATABASE_URL"], os.environ["MONGODB_URI"]
REDIS, UPSTREAM = os.environ["REDIS_URL"], os.environ["UPSTREAM_URL"] + "/weather/Berlin"
CURSOR = psycopg2.connect(POSTGRES).cursor()
CONNECTION = psycopg.connect(POSTGRES)
LOCK = threading.Lock()
LOCK.acquire()

def nap():
    time.sleep(0.01)  # named: sleeps_below

def swallow(function):
    try:
        function(0)  # named: swallows
    except Exception:
        pass

async def late():
    time.sleep(0)  # named: spawns
"""

OWN_LINE = {"sleeps_below", "swallows", "spawns"}
"""Those of which a line further down is to be named."""

TESTS = """
from importlib import import_module

import pytest

@pytest.fixture
def offences(app):
    return import_module("orders.offences")

@pytest.mark.parametrize("name", {names})
async def test_offence(name, app, offences):
    app.add_url_rule("/offence", view_func=getattr(offences, f"handle_{{name}}"))
    async with app.test_app():
        await app.test_client().get("/offence")

async def test_subtests(subtests):
    with subtests.test():
        print("captured in a file")

async def test_debugger(app, client):
    @app.get("/debug")
    async def debug():
        breakpoint()
        return "done"

    assert (await client.get("/debug")).status_code == 200
"""


@pytest.mark.slow
def test_tests_fail_where_a_handler_blocks(open_path: Path) -> None:
    """And name the line, whatever becomes of the error in the app; pytest's tools may block."""
    project = generate(open_path / "orders")
    source = HANDLERS
    for name, code in OFFENCES.items():
        mark = "" if name in OWN_LINE else f"  # named: {name}"
        source += f"\nasync def handle_{name}():\n    {code}{mark}\n    return 'done'\n"
    (project / "src" / "orders" / "offences.py").write_text(source)
    (project / "tests" / "test_offences.py").write_text(TESTS.format(names=list(OFFENCES)))
    uv("add", "--no-sync", "requests", "psycopg2-binary", "psycopg[binary]", cwd=project)
    uv("sync", "--quiet", cwd=project)

    command = "echo continue | pytest -q -p no:warnings tests/test_offences.py"
    tested = uv("run", "--no-sync", "sh", "-c", command, cwd=project, check=False).output

    lines = source.splitlines()
    for name in OFFENCES:
        line = next(n for n, text in enumerate(lines, 1) if text.endswith(f"# named: {name}"))
        report = tested.partition(f"test_offence[{name}]")[2].partition("\n____")[0]
        assert f"src/orders/offences.py:{line} blocks the event loop" in report, tested
    assert f"{len(OFFENCES)} failed, 2 passed" in tested


WATCHED = """
import time
from quart import Blueprint

blueprint = Blueprint("slow", __name__)

@blueprint.get("/slow")
async def slow():
    time.sleep(0.5)
    return {}

@blueprint.get("/busy")
async def busy():
    return {"sum": sum(range(50_000_000))}
"""


@pytest.mark.slow
def test_development_logs_what_blocks(tmp_path: Path) -> None:
    """For how long, and by which line; a call into C that lets no other thread run included."""
    project = generate(tmp_path / "orders", [], features=[])
    (project / "src" / "orders" / "blueprints" / "slow.py").write_text(WATCHED)
    register(project, "slow")
    uv("sync", "--quiet", cwd=project)
    port = free_port()

    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        assert ask(port, "/slow")[0] == 200
        # After a call that held the GIL, another thread may run before the watchdog.
        for _ in range(4):
            assert ask(port, "/busy")[0] == 200
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 5)
        process.terminate()
        output, _ = process.communicate(timeout=15)

    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in output.splitlines()]
    sleeping, *computing = (line for line in lines if "event loop is blocked" in line)
    slept, *_ = (line for line in lines if "event loop was blocked" in line)
    assert re.search(r"slow\.py:9: time\.sleep\(0\.5\)", sleeping), sleeping
    assert re.search(r"seconds=0\.[56]", slept), slept
    assert computing
    assert all(re.search(r"slow\.py:14: return .*sum\(", line) for line in computing), computing
