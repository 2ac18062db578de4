"""Migrations of a generated service, with Alembic's own commands on a real server."""

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from harness import (
    MODELS,
    ROOT,
    Outcome,
    clean_environment,
    files_of,
    generate,
    open_folder,
    run,
    uv,
)
from pooler import pooled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """Return an installed service with PostgreSQL."""
    with open_folder() as folder:
        project = generate(folder / "orders", ["postgres"], features=["examples"])
        uv("sync", "--quiet", cwd=project)
        yield project


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[str]:
    """Return the URL of a running server."""
    process = subprocess.Popen(
        [project / ".venv" / "bin" / "python", "-c", SERVE, project.parent / "data"],
        cwd=project,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate(timeout=30)


SERVE = """
import sys
from pathlib import Path
from dev import postgres
with postgres.start(Path(sys.argv[1]), durable=False) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def url(project: Path, server: str) -> Iterator[str]:
    """Return the URL of an empty database. Later, the service has only its own migration again."""
    name = f"test_{uuid.uuid4().hex}"
    query(project, server, f"CREATE DATABASE {name}")
    yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    for file in versions(project).glob("*.py"):
        if file.name != "0001_notes.py":
            file.unlink()


def query(project: Path, url: str, sql: str) -> list[list[object]]:
    """Run a query and return its rows."""
    python = project / ".venv" / "bin" / "python"
    rows: list[list[object]] = json.loads(run(python, "-c", QUERY, url, sql, cwd=project).output)
    return rows


QUERY = """
import asyncio, json, sys
import asyncpg

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print(json.dumps([list(row) for row in await connection.fetch(sys.argv[2])]))
    await connection.close()

asyncio.run(main())
"""


def versions(project: Path) -> Path:
    """Return the folder of the migrations."""
    return project / "migrations" / "versions"


def alembic(project: Path, *arguments: str, url: str = "", check: bool = True) -> Outcome:
    """Run Alembic; url: the database, which only some commands need."""
    env = {"DATABASE_URL": url} if url else {}
    command = project / ".venv" / "bin" / "alembic"
    return run(command, *arguments, cwd=project, check=check, env=env)


def revision(
    project: Path,
    identifier: str,
    upgrade: str = "SELECT 1",
    downgrade: str = "SELECT 1",
    *options: str,
    message: str = "a change",
) -> Path:
    """Begin a migration and write SQL into it."""
    alembic(project, "revision", "-m", message, "--rev-id", identifier, *options)
    (file,) = versions(project).glob(f"{identifier}_*.py")
    before, between, after = re.split("TODO: SQL that .*", file.read_text())
    file.write_text(before + upgrade + between + downgrade + after)
    return file


@pytest.mark.parametrize(
    "message", ["add a column", r"fix C:\users", 'Größe "x" \'y\' ${1} %s """', "ends with \\"]
)
def test_a_new_migration_is_clean_code(message: str, project: Path, url: str) -> None:
    """Whatever the message says."""
    file = revision(project, "0002", message=message)

    assert 'down_revision = "0001"' in file.read_text()
    uv("run", "ruff", "check", "migrations", cwd=project)
    uv("run", "ruff", "format", "--check", "migrations", cwd=project)
    alembic(project, "upgrade", "head", url=url)
    assert query(project, url, "SELECT * FROM alembic_version") == [["0002"]]


def test_a_new_migration_fails_until_it_has_its_sql(project: Path, url: str) -> None:
    """`uv run -m dev` applies new files: an empty one must not count as applied."""
    alembic(project, "revision", "-m", "add a table", "--rev-id", "0002")

    failed = alembic(project, "upgrade", "head", url=url, check=False)

    assert failed.code != 0
    assert 'syntax error at or near "TODO"' in failed.output
    assert query(project, url, TABLES) == []


def test_parallel_branches_can_be_merged(project: Path, url: str) -> None:
    """Two people have begun a migration each: `alembic merge heads` brings them together."""
    revision(project, "0002", "CREATE TABLE a ()", "DROP TABLE a")
    head = ("--head", "0001", "--splice")
    revision(project, "0003", "CREATE TABLE b ()", "DROP TABLE b", *head)

    alembic(project, "merge", "heads", "-m", "merge", "--rev-id", "0004")
    alembic(project, "upgrade", "head", url=url)

    assert query(project, url, "SELECT * FROM alembic_version") == [["0004"]]
    assert 'down_revision = ("0002", "0003")' in (versions(project) / "0004_merge.py").read_text()
    uv("run", "ruff", "check", "migrations", cwd=project)
    uv("run", "ruff", "format", "--check", "migrations", cwd=project)
    alembic(project, "downgrade", "0001", url=url)
    assert query(project, url, TABLES) == [["alembic_version"], ["notes"]]


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"

SQL = r"""
CREATE TABLE things (id int, document jsonb NOT NULL DEFAULT '{"x":true}');
INSERT INTO things VALUES (1), (2), (3);
UPDATE things SET document = '{"at": "10:30:00", "re": "\\d%s"}' WHERE id::bigint = 2;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;
"""


def test_sql_runs_as_it_stands(project: Path, url: str) -> None:
    """Several commands in one text; colons, percent signs and backslashes have no meaning."""
    revision(project, "0002", SQL, "DROP FUNCTION one; DROP TABLE things")

    alembic(project, "upgrade", "head", url=url)

    found = query(project, url, "SELECT document::text FROM things ORDER BY id")
    assert found == [['{"x": true}'], [r'{"at": "10:30:00", "re": "\\d%s"}'], ['{"x": true}']]
    alembic(project, "downgrade", "-1", url=url)
    assert query(project, url, TABLES) == [["alembic_version"], ["notes"]]


def test_alembics_other_operations_work(project: Path, url: str) -> None:
    """Columns by op.add_column, bind parameters, and an index that no transaction may create."""
    file = revision(project, "0002")
    text = file.read_text().replace(
        "import op\n", "import op\nfrom sqlalchemy import Column, Text, text\n"
    )
    begin = text.index("    op.execute")
    file.write_text(text[:begin] + OPERATIONS + text[text.index("\n\n\ndef downgrade") :])

    alembic(project, "upgrade", "head", url=url)

    assert query(project, url, "SELECT title, colour FROM notes") == [["a:b", None]]
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'notes' ORDER BY 1"
    assert query(project, url, indexes) == [["notes_pkey"], ["titles"]]


OPERATIONS = """\
    op.add_column("notes", Column("colour", Text))
    op.execute(text("INSERT INTO notes (title, body) VALUES (:t, '')").bindparams(t="a:b"))
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY titles ON notes (title)")
"""


def test_a_migration_that_fails_changes_nothing(project: Path, url: str) -> None:
    """What it did is undone, also after a part that ran outside the transaction."""
    alembic(project, "upgrade", "head", url=url)
    file = revision(project, "0002")
    text = file.read_text()
    begin = text.index("    op.execute")
    file.write_text(text[:begin] + FAILS + text[text.index("\n\n\ndef downgrade") :])

    failed = alembic(project, "upgrade", "head", url=url, check=False)

    assert failed.code != 0
    assert 'syntax error at or near "SELEC"' in failed.output
    assert query(project, url, TABLES) == [["alembic_version"], ["notes"]]


FAILS = """\
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY titles ON notes (title)")
    op.execute("CREATE TABLE a ()")
    op.execute("CREATE TABLE b (); SELEC 1")
"""


def test_migrations_run_behind_a_pooler(project: Path, url: str) -> None:
    """As often as you like, even without POSTGRES_POOLER, which the service needs."""
    with pooled(url) as behind:
        for number in range(2, 5):
            table = f"t{number}"
            revision(project, f"000{number}", f"CREATE TABLE {table} ()", f"DROP TABLE {table}")
            alembic(project, "upgrade", "head", url=behind)
        alembic(project, "downgrade", "base", url=behind)

    assert query(project, url, TABLES) == [["alembic_version"]]


def test_several_processes_migrate_at_once(project: Path, url: str) -> None:
    """One does the work, and the others wait for it."""
    revision(project, "0002", "SELECT pg_sleep(0.5); CREATE TABLE a ()")
    command = (str(project / ".venv" / "bin" / "alembic"), "upgrade", "head")
    environment = clean_environment() | {"DATABASE_URL": url}

    running = [subprocess.Popen(command, cwd=project, env=environment) for _ in range(3)]

    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert query(project, url, "SELECT * FROM alembic_version") == [["0002"]]


def test_without_a_url_one_line_says_what_is_missing(project: Path) -> None:
    """No traceback."""
    outcome = alembic(project, "upgrade", "head", check=False)

    assert outcome.code != 0
    assert outcome.output.startswith("DATABASE_URL: is missing; for example postgresql://")
    assert outcome.output.count("\n") == 1


GUIDE = ROOT / "docs" / "scale.md"

SIDE_BY_SIDE: list[tuple[str, list[str]]] = [
    ("0001", ["1"]),
    ("0002", ["1"]),
    ("0002", ["1", "2"]),
    ("0002", ["1"]),
    ("0002", ["2"]),
    ("0003", ["2"]),
    ("0003", ["2", "3"]),
    ("0003", ["2"]),
    ("0003", ["3"]),
    ("0004", ["3"]),
]
"""What a rollout goes through: the last migration, and the versions of the service that run. It
also goes back to the version before."""


def test_the_guide_expands_and_contracts_under_running_versions(project: Path, url: str) -> None:
    """Each version reads what any other one beside it has written, on connections of before."""
    texts = dict(
        re.findall(r"^-- (\w+ \w+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    )
    for number in ("0002", "0003", "0004"):
        revision(project, number, texts[f"migration {number}"])
    queries = {
        name.removeprefix("version "): text.strip().rstrip(";").split(";\n")
        for name, text in texts.items()
        if name.startswith("version")
    }

    plan = json.dumps({"queries": queries, "steps": SIDE_BY_SIDE})
    python = project / ".venv" / "bin" / "python"
    outcome = run(python, "-c", ROLL_OUT, plan, cwd=project, env={"DATABASE_URL": url})

    assert outcome.output.splitlines()[-1] == "12 written, 80 read"
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'notes'"
    assert ["body"] not in query(project, url, columns)


ROLL_OUT = """
import asyncio, json, os, subprocess, sys
import asyncpg

async def main():
    plan = json.loads(sys.argv[1])
    connections, written, read = {}, {}, 0
    for revision, versions in plan["steps"]:
        subprocess.run(["alembic", "upgrade", revision], check=True, env=ENVIRONMENT)
        for version in versions:
            if version not in connections:
                connections[version] = await asyncpg.connect(os.environ["DATABASE_URL"])
            text = f"note {len(written)}"
            written[await connections[version].fetchval(plan["queries"][version][0], text)] = text
        for version in versions:
            for note, text in written.items():
                found = await connections[version].fetchval(plan["queries"][version][1], note)
                assert found == text, (version, note, found)
                read += 1
    print(len(written), "written,", read, "read")

ENVIRONMENT = os.environ | {"PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]}
asyncio.run(main())
"""


CUSTOMER = """
from sqlalchemy import BigInteger, Identity
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    credit: Mapped[int] = mapped_column(server_default="0", index=True)
"""

CHANGES = {
    "email: Mapped[str]": "email: Mapped[str | None]",
    "credit: Mapped[int] = mapped_column(": "credit: Mapped[int] = mapped_column(BigInteger, ",
    'server_default="0"': 'server_default="5"',
}

COLUMNS = """
SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_name = 'customers' AND column_name <> 'id' ORDER BY 1
"""


def test_models_lead_to_migrations(project: Path, url: str) -> None:
    """Of new and changed classes, types and defaults included: they apply, revert, and lint."""
    update_to_models(project)
    room = project / "src" / "orders" / "models"
    alembic(project, "upgrade", "head", url=url)
    alembic(project, "check", url=url)
    (room / "customers.py").write_text(CUSTOMER)
    listed = (room / "__init__.py").read_text()
    here = "# Yours, for example: from . import customers\n"
    (room / "__init__.py").write_text(listed.replace(here, f"{here}from . import customers\n"))
    states = []

    for number, replaced in ((2, {}), (3, CHANGES)):
        for old, new in replaced.items():
            text = (room / "customers.py").read_text()
            assert old in text
            (room / "customers.py").write_text(text.replace(old, new))
        assert alembic(project, "check", url=url, check=False).code != 0
        made = ("--autogenerate", "-m", "customers", "--rev-id", f"000{number}")
        alembic(project, "revision", *made, url=url)
        alembic(project, "upgrade", "head", url=url)
        alembic(project, "check", url=url)
        states.append(query(project, url, COLUMNS))

    assert states == [
        [["credit", "integer", "NO", "0"], ["email", "text", "NO", None]],
        [["credit", "bigint", "NO", "'5'::bigint"], ["email", "text", "YES", None]],
    ]
    alembic(project, "downgrade", "0002", url=url)
    assert query(project, url, COLUMNS) == states[0]
    alembic(project, "downgrade", "0001", url=url)
    assert query(project, url, TABLES) == [["alembic_version"], ["notes"]]
    uv("run", "ruff", "check", "migrations", cwd=project)
    uv("run", "ruff", "format", "--check", "migrations", cwd=project)
    # By hand, a migration is still plain SQL, and fails until it has some.
    alembic(project, "revision", "-m", "by hand", "--rev-id", "0004")
    failed = alembic(project, "upgrade", "head", url=url, check=False)
    assert 'syntax error at or near "TODO"' in failed.output


def update_to_models(project: Path) -> None:
    """Have models in the service from here on."""
    with open_folder() as folder:
        modeled = generate(folder / "orders", ["postgres"], features=["examples", MODELS])
        for name, content in files_of(modeled).items():
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_bytes(content)
