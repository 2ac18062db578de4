"""Generated services, installed and tested as their users do: `uv sync`, `uv run pytest`, mypy.

They run their own tests and those of tests/service/, which are about the code of the template.
"""

import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from harness import (
    BACKENDS,
    JOBS,
    MIXES,
    MODELS,
    ROOT,
    SUBSETS,
    Mix,
    Outcome,
    all_features,
    commit_all,
    generate,
    name_of,
    processes_of,
    pythons,
    run,
    uv,
)

pytestmark = pytest.mark.slow

SERVICE = ROOT / "tests" / "service"

NEEDED = {*BACKENDS, *all_features(), "backends"}
"""Words that say in the path of a test what it needs; `backends` stands for any of them."""

THIS_PYTHON = "{}.{}".format(*sys.version_info)

OTHER_PYTHONS = {version: path for version, path in pythons().items() if version != THIS_PYTHON}
"""The interpreters of this machine, but the one that all other tests use."""

each_python = pytest.mark.parametrize("python", OTHER_PYTHONS.values(), ids=OTHER_PYTHONS)

each_subset = pytest.mark.parametrize("backends", SUBSETS, ids=name_of)


def fitting(backends: Collection[str], features: Collection[str]) -> Iterator[Path]:
    """Yield the files of tests/service/ that fit a service, as relative paths."""
    chosen = {*backends, *features, *(["backends"] if backends else [])}
    for file in sorted(SERVICE.rglob("*.py")):
        name = file.relative_to(SERVICE)
        if set(re.findall("[a-z]+", name.as_posix())) & NEEDED <= chosen:
            yield name


def add_service_tests(
    project: Path, backends: Collection[str], features: Collection[str], about: str = ""
) -> None:
    """Copy those that fit into a service; about: only those with this word in their paths."""
    for name in fitting(backends, features):
        if name.name.startswith("test_") and about not in name.as_posix():
            continue
        target = project / "tests" / "service" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SERVICE / name, target)


def passes(project: Path, *options: str, **env: str) -> None:
    """Assert that an installed service passes the tests that are in it.

    Many of them measure times, and other tests of ours run beside them: the few that fail get a
    second chance.
    """
    command = ("run", "--no-sync", "pytest", "-q", *options)
    tested = uv(*command, cwd=project, env=env, timeout=900, check=False)
    failed = re.findall(r"^FAILED .*", tested.output, re.MULTILINE)
    if 0 < len(failed) <= 3:
        print(tested.output[-6000:])
        tested = uv(*command, "--last-failed", cwd=project, env=env, timeout=300, check=False)

    assert tested.code == 0, tested.output
    assert re.search(r"\d+ passed", tested.output)
    assert not re.search("failed|skipped|warning", tested.output.splitlines()[-1])
    assert processes_of(project.parent) == []


@each_subset
def test_a_service_passes_its_tests(backends: list[str], open_path: Path) -> None:
    """Installed from nothing but what it declares, on real servers."""
    features = MIXES[0].features
    project = generate(open_path / "orders", backends)
    uv("sync", "--quiet", cwd=project)

    add_service_tests(project, backends, features)
    passes(project, TMPDIR=str(open_path))
    uv("run", "--no-sync", "mypy", cwd=project)


MIXED: list[Sequence[str]] = [
    ["postgres", "http"],
    ["redis"],
    [],
    [],
    BACKENDS,
    ["mongo"],
    BACKENDS,
    ["postgres", "redis"],
    BACKENDS,
    ["mongo", "http"],
    [],
    ["redis"],
    BACKENDS,
]
"""Backends for each of the other mixes of answers."""


@pytest.mark.parametrize(
    ("mix", "backends"),
    list(zip(MIXES[1:], MIXED, strict=True)),
    ids=[f"{mix}-{name_of(backends)}" for mix, backends in zip(MIXES[1:], MIXED, strict=True)],
)
def test_a_service_with_other_answers_passes_its_tests(
    mix: Mix, backends: Sequence[str], tmp_path: Path
) -> None:
    """No feature needs another one. With tracing or jobs, ours pass, too."""
    project = generate(
        tmp_path / "orders",
        backends,
        features=list(mix.features),
        ci=mix.ci,
        license=mix.license,
    )
    uv("sync", "--quiet", cwd=project)

    if "auth" in mix.features:
        # The others call endpoints that say nothing from outside, without tokens.
        add_service_tests(project, backends, mix.features, about="auth")
        add_service_tests(project, backends, mix.features, about="jobs_redis_spans")
    elif JOBS in mix.features:
        add_service_tests(project, backends, mix.features, about="jobs")
    elif "tracing" in mix.features and len(backends) in {0, len(BACKENDS)}:
        add_service_tests(project, backends, mix.features)
    passes(project)
    uv("run", "--no-sync", "mypy", cwd=project)


@pytest.mark.parametrize(
    ("backends", "features"),
    [
        (["postgres"], ["examples", MODELS]),
        (["mongo"], [MODELS]),
        (BACKENDS, [name for name in all_features() if name != "auth"]),
    ],
    ids=name_of,
)
def test_a_service_with_models_passes_its_tests(
    backends: Sequence[str], features: list[str], open_path: Path
) -> None:
    """The first two run all tests of their database, the last one those of features."""
    project = generate(open_path / "orders", backends, features=features)
    uv("sync", "--quiet", cwd=project)

    add_service_tests(project, backends, features)
    # All others have passed in services without models, or with fewer backends.
    rest = (
        "test_*.py",
        "blueprints",
        "service/tracing",
        "service/test_*models*.py",
        "service/test_*jobs*.py",
    )
    tests = [path for pattern in rest for path in sorted((project / "tests").glob(pattern))]
    passes(project, *(map(str, tests) if len(backends) > 1 else ()), TMPDIR=str(open_path))
    uv("run", "--no-sync", "mypy", cwd=project)


@each_subset
def test_the_lowest_versions_that_a_service_declares_work(
    backends: list[str], tmp_path: Path
) -> None:
    """All subsets install; none and all run their tests, too."""
    project = generate(tmp_path / "orders", backends, features=all_features(backends))

    uv("sync", "--quiet", "--resolution", "lowest-direct", cwd=project)
    if len(backends) in {0, len(BACKENDS)}:
        passes(project)


@each_python
@pytest.mark.parametrize("backends", [[], list(BACKENDS)], ids=name_of)
def test_every_python_will_do(backends: Sequence[str], python: Path, tmp_path: Path) -> None:
    """From 3.11 on, whichever version of Quart that means."""
    project = generate(tmp_path / "orders", backends)
    uv("sync", "--quiet", cwd=project, env={"UV_PYTHON": str(python)})

    passes(project, UV_PYTHON=str(python))


def test_workers_have_databases_of_their_own(tmp_path: Path) -> None:
    """Tests may run side by side, and take seconds, or more beside other tests of ours."""
    project = generate(tmp_path / "orders")
    uv("sync", "--quiet", cwd=project)

    began = time.monotonic()
    uv("run", "pytest", "-q", cwd=project)
    took = time.monotonic() - began
    uv("run", "pytest", "-q", "-n", "2", cwd=project)

    print(f"tests of all backends: {took:.1f} s")
    assert took < 60


def test_every_test_of_services_runs_somewhere() -> None:
    """And what needs a backend is nowhere else."""
    everywhere = set(fitting([], []))
    names = {name.as_posix() for name in everywhere}

    assert {"test_api.py", "test_process.py"} <= names
    assert not [name for name in names if re.search("postgres|tracing|models", name)]
    assert set(fitting(BACKENDS, all_features())) == {
        file.relative_to(SERVICE) for file in SERVICE.rglob("*.py")
    }


USES_ALL = '''
"""What users write: no casts, no ignores."""

import hashlib
from datetime import datetime

from orders.backends import http, mongo, postgres, redis
from orders.core import blocking


async def use() -> None:
    row = await postgres.pool().fetchrow("SELECT now() AS now")
    if row is not None:
        now: datetime = row["now"]
        print(now.year)
    async with postgres.pool().acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1")
        async for record in connection.cursor("SELECT 1 AS one"):
            print(record["one"])
    document = await mongo.database().things.find_one({"name": "a"})
    if document is not None:
        print(document["name"])
    async for thing in mongo.database()["things"].find():
        print(thing.get("name"))
    value = await redis.client().get("key")
    print(value or "none")
    print(await redis.cached("key", 60, load))
    async with http.session().get(http.path("weather", "Berlin")) as response:
        print(response.status, await response.json())
    key: bytes = await blocking.run(hashlib.scrypt, b"secret", salt=b"salt", n=2, r=1, p=1)
    print(key)


async def load() -> dict[str, int]:
    return {"number": 1}
'''

MISUSES = '''
"""What users get wrong: each line is an error."""

import hashlib

from orders.backends import http, mongo, postgres, redis
from orders.core import blocking


async def misuse() -> None:
    row = await postgres.pool().fetchrow("SELECT 1")
    print(row["one"])
    await postgres.pool().fetch_all("SELECT 1")
    await mongo.database().things.find_one({"name": "a"}).name
    await redis.client().gett("key")
    await http.session().gett("weather/Berlin")
    await blocking.run(hashlib.scrypt, b"secret", salt=b"salt", rounds=2)
    await redis.cached("key", 60, load)


def load() -> dict[str, int]:
    return {"number": 1}
'''


def test_types_reach_users(tmp_path: Path) -> None:
    """`mypy --strict` accepts right uses of the accessors, and finds wrong ones."""
    project = generate(tmp_path / "orders")
    source = project / "src" / "orders"
    (source / "uses.py").write_text(USES_ALL)
    (source / "misuses.py").write_text(MISUSES)
    uv("sync", "--quiet", cwd=project)

    uv("run", "mypy", "src/orders/uses.py", cwd=project)
    found = uv("run", "mypy", "src/orders/misuses.py", cwd=project, check=False)

    wrong_lines = {int(line) for line in re.findall(r"misuses\.py:(\d+): error", found.output)}
    assert wrong_lines == {12, 13, 14, 15, 16, 17, 18}, found.output


def test_a_database_outlives_the_examples(open_path: Path) -> None:
    """Deleting the examples as the README says leaves a service whose tests pass."""
    project = generate(open_path / "orders", ["postgres"])
    uv("sync", "--quiet", cwd=project)
    commit_all(project)
    (delete,) = re.findall(
        r"^\*\*Delete the examples\.\*\*.*?^```\n(.*?)^```",
        (project / "README.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    update, restore = delete.replace("uvx", f"{sys.executable} -m").splitlines()

    def migrate() -> Outcome:
        command = (project / ".venv" / "bin" / "python", "-c", MIGRATE, open_path / "data")
        return run(*command, cwd=project, check=False)

    before = migrate()
    told = run("bash", "-c", update, cwd=project).output
    without = migrate()
    run("bash", "-c", restore, cwd=project)
    after = migrate()

    assert (before.code, after.code) == (0, 0), before.output + after.output
    assert without.code != 0
    assert "Can't locate revision identified by '0001'" in without.output
    assert f"  {restore}\n" in told
    assert not (project / "src" / "orders" / "blueprints" / "notes.py").exists()
    uv("run", "pytest", "-q", cwd=project)


MIGRATE = """
import os, subprocess, sys
from pathlib import Path
from dev import postgres

with postgres.start(Path(sys.argv[1]), durable=True) as server:
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    sys.exit(subprocess.run(command, env=os.environ | {"DATABASE_URL": server.url}).returncode)
"""
