"""`uv run -m dev` and the production command, as users run them: real processes and signals."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import pexpect
import pytest
from harness import (
    BACKENDS,
    URLS,
    Outcome,
    clean_environment,
    generate,
    git,
    open_folder,
    processes_of,
    register,
    run,
    uv,
)
from running import ask, dev, free_port, wait_for
from uv import find_uv_bin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """Return an installed service with all backends."""
    with open_folder() as folder:
        generate(folder / "orders")
        uv("sync", "--quiet", cwd=folder / "orders")
        yield folder / "orders"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an installed service that only calls another one, which has a stand-in."""
    project = generate(tmp_path_factory.mktemp("small") / "orders", ["http"], features=["auth"])
    uv("sync", "--quiet", cwd=project)
    return project


def test_notes_survive_a_kill_and_nothing_else_does(project: Path) -> None:
    """After SIGKILL no server is left, and the next start has the data."""
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        status, note = ask(port, "/notes", {"title": "survivor"})
        assert status == 201
        assert len(processes_of(project)) >= 3
        process.kill()
        print(f"gone after {wait_for(lambda: not pids_in(project), 12):.1f} s")

    with dev(project, "--port", str(port)):
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        assert ask(port, f"/notes/{note['id']}") == (200, note)


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, {0}), (signal.SIGTERM, {0, 143})])
def test_it_ends_cleanly(project: Path, number: signal.Signals, codes: set[int]) -> None:
    """Ctrl-C and SIGTERM leave nothing behind."""
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        process.send_signal(number)
        output, _ = process.communicate(timeout=15)

    assert process.returncode in codes, output
    assert "Traceback" not in output
    assert processes_of(project) == []


def dev_command(project: Path, *arguments: str, **variables: str) -> Outcome:
    """Run `python -m dev` with arguments to its end."""
    python = project / ".venv" / "bin" / "python"
    path = f"{python.parent}:{os.environ['PATH']}"
    environment = {"PATH": path} | variables
    return run(python, "-m", "dev", *arguments, cwd=project, env=environment, check=False)


def test_only_one_runs_in_a_directory(project: Path) -> None:
    """A second one says so in one line and harms nothing."""
    port = free_port()
    with dev(project, "--port", str(port)):
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        second = dev_command(project)
        assert ask(port, "/health/ready")[0] == 200

    assert second == Outcome(1, "dev: already running in this directory\n")


def test_the_lock_of_a_killed_one_is_void(project: Path, lent: Path) -> None:
    """Neither its lock nor the URLs of its servers are used."""
    running = project / ".dev" / "running"
    with dev(project, "services") as process:
        assert process.stdout is not None
        server = process.stdout.readline().strip().partition("=")[2]
        wait_for(running.read_text, 30)
        process.kill()

    tested = run(
        project / ".venv" / "bin" / "python", "-m", "pytest", "-q", "-s", lent, cwd=project
    )
    after = dev_command(project, "run", "printenv", "DATABASE_URL")

    assert server.rpartition("/")[0] not in tested.output
    assert after.code == 0, after.output
    assert after.output.strip() != server
    assert stat.S_IMODE(running.stat().st_mode) == 0o600


@pytest.fixture
def lent(project: Path) -> Iterator[Path]:
    """Return a test of the service that prints which database it has."""
    file = project / "tests" / "test_lent.py"
    file.write_text(LENT)
    yield file
    file.unlink()


LENT = """
import os

async def test_lent(client):
    print("lent", os.environ["DATABASE_URL"])
"""


def test_a_taken_port(project: Path) -> None:
    """The port that you ask for is not silently replaced, the default one is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked_for = dev_command(project, "--port", str(port))
        impossible = dev_command(project, "--port", "70000")
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 8000)))
        process = stack.enter_context(dev(project))
        served = port_of(process)

    refused = f"dev: port {port} is taken or not allowed. Choose one with --port.\n"
    assert asked_for == Outcome(1, refused)
    assert impossible.code == 1
    assert 8000 < served < 8100


def port_of(process: "subprocess.Popen[str]") -> int:
    """Return the port of the service, once `python -m dev` has printed it."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Service +http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("no port was printed")


def test_wrong_arguments(project: Path) -> None:
    """The usual message and exit code."""
    outcome = dev_command(project, "--prot=1")

    assert outcome.code == 2
    assert "unrecognized arguments: --prot=1" in outcome.output


def test_services_prints_variables_to_copy(project: Path) -> None:
    """A configured server is used and not started."""
    configured = "postgresql://somebody:secret@127.0.0.1:1/elsewhere"
    with dev(project, "services", DATABASE_URL=configured) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        started = " ".join(processes_of(project))

    assert "mongod" in started
    assert "postgres" not in started
    assert [line.partition("=")[0] for line in lines] == [
        "MONGODB_URI",
        "REDIS_URL",
        "UPSTREAM_URL",
    ]


def test_a_configured_database_is_the_one_that_is_migrated(project: Path) -> None:
    """Nothing is started in its place, even when it does not answer."""
    with dev(project, DATABASE_URL=URLS["postgres"][1]) as process:
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert re.fullmatch(
        r"dev: starting the servers\ndev: cannot connect to DATABASE_URL: .*\n", output
    ), output
    assert "secret" not in output
    assert processes_of(project) == []


def test_a_wrong_url_is_named(project: Path) -> None:
    """One line, without the value."""
    outcome = dev_command(project, DATABASE_URL="ftp://user:secret@localhost")

    assert outcome.code == 1
    assert outcome.output.splitlines()[-1].startswith("DATABASE_URL: "), outcome.output
    assert "secret" not in outcome.output
    assert "Traceback" not in outcome.output


def test_variables_of_the_shell_do_not_reach_an_own_database(project: Path) -> None:
    """They would break the server, and the connections of all that use it."""
    shell = {
        "PGSSLMODE": "require",
        "PGTARGETSESSIONATTRS": "standby",
        "PGHOST": "db.example.org",
        "PGPORT": "1",
        "PGOPTIONS": "-c statement_timeout=broken",
        "PGSERVICE": "none",
    }
    port = free_port()
    with dev(project, "--port", str(port), **shell):
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        asked = dev_command(project, "run", "psql", "-Atc", "SELECT 40 + 2", **shell)
        tested = dev_command(project, "run", "pytest", "-q", "tests/test_postgres.py", **shell)
    alone = dev_command(project, "run", "pytest", "-q", "tests/test_postgres.py", **shell)

    assert asked == Outcome(0, "42\n")
    assert tested.code == 0, tested.output
    assert alone.code == 0, alone.output


def test_run_starts_the_servers_for_a_command(project: Path) -> None:
    """The command has their variables; its exit code is that of the whole."""
    code = "import os, sys; print(*map(os.environ.get, sys.argv[1:])); sys.exit(7)"
    variables = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "UPSTREAM_URL")

    outcome = dev_command(project, "run", "python", "-c", code, *variables)
    migrated = dev_command(project, "run", "alembic", "upgrade", "head")
    missing = dev_command(project, "run", "no-such-command")

    assert outcome.code == 7
    schemes = [url.partition(":")[0] for url in outcome.output.split()]
    assert schemes == ["postgresql", "mongodb", "redis", "http"]
    assert migrated.code == 0, migrated.output
    assert missing == Outcome(127, "no-such-command: No such file or directory\n")
    assert processes_of(project) == []


def test_run_and_pytest_use_the_servers_that_run(project: Path, lent: Path) -> None:
    """So do several at once, even while they start; pytest has databases of its own there."""
    printenv = ("run", "printenv", "DATABASE_URL")
    with dev(project, "services") as process:
        assert process.stdout is not None
        wait_for(lambda: processes_of(project), 10)
        early = dev_command(project, *printenv)
        server = process.stdout.readline().strip().partition("=")[2]
        servers = sorted(processes_of(project))
        late = dev_command(project, *printenv)
        chosen = dev_command(project, *printenv, DATABASE_URL=URLS["postgres"][1])
        python = project / ".venv" / "bin" / "python"
        tested = run(python, "-m", "pytest", "-q", "-s", lent, cwd=project)
        left = dev_command(project, "run", "psql", "-Atc", "SELECT datname FROM pg_database")
        printed = [process.stdout.readline().strip() for _ in range(3)]
        upstream = dev_command(project, "run", "printenv", "UPSTREAM_URL").output.strip()
        assert sorted(processes_of(project)) == servers

    assert early.output.strip() == late.output.strip() == server
    assert printed[-1] == f"UPSTREAM_URL={upstream}"
    assert chosen.output.strip() == URLS["postgres"][1]
    assert f"lent {server.rpartition('/')[0]}/test_" in tested.output
    assert sorted(left.output.split()) == ["postgres", "template0", "template1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("who", ["dev", "uv"])
@pytest.mark.parametrize("service", ["project", "small"])
def test_a_command_does_not_outlive_dev(
    service: str, who: str, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """Whoever gets the signal: neither the command nor its children stay, nor the servers."""
    project: Path = request.getfixturevalue(service)
    sleep = "import subprocess; print('runs', flush=True); subprocess.run(['sleep', '987'])"
    python = str(project / ".venv" / "bin" / "python")
    start = [python, "-m", "dev"] if who == "dev" else [find_uv_bin(), "run", "-m", "dev"]
    process = subprocess.Popen(
        [*start, "run", python, "-c", sleep],
        cwd=project,
        env=clean_environment() | {"UV_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(number)
        wait_for(lambda: not (sleepers() or processes_of(project) or pids_of_dev(project)), 12)
    wait_for(lambda: not pids_in(project), 12)


def pids_in(project: Path) -> list[int]:
    """Return the process IDs of all programs whose current folder is the project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == project:
                found.append(int(process.name))
    return found


def test_stand_ins_answer_a_command(small: Path) -> None:
    """They are there for its length; its exit code is that of the whole."""
    answered = dev_command(small, "run", "python", "-c", READ_BOTH)
    codes = [
        dev_command(small, "run", "sh", "-c", script).code for script in ("exit 7", "kill -9 $$")
    ]
    missing = dev_command(small, "run", "no-such-command")

    assert answered.code == 0, answered.output
    assert '"city": "Rome"' in answered.output
    assert codes == [7, 128 + signal.SIGKILL]
    assert missing == Outcome(127, "no-such-command: No such file or directory\n")


READ_BOTH = """
import os
from urllib.request import urlopen

for variable, path in (("UPSTREAM_URL", "/weather/Rome"), ("AUTH_ISSUER", "/token")):
    print(urlopen(os.environ[variable] + path).read().decode())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("command", [("dev", "services"), ("pytest", "-s", "tests/test_wait.py")])
def test_stand_ins_end_with_their_owner(
    small: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    """Whatever ends `-m dev` or pytest: nobody listens afterwards."""
    (small / "tests" / "test_wait.py").write_text(WAIT)
    owner = subprocess.Popen(
        [small / ".venv" / "bin" / "python", "-m", *command],
        cwd=small,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        lines = iter(owner.stdout.readline, "")
        found = filter(None, (re.search(r"UPSTREAM_URL=\S+:(\d+)", line) for line in lines))
        port = int(next(found)[1])
        assert ask(port, "/weather/Rome")[0] == 200
        owner.send_signal(number)
    assert ask(port, "/weather/Rome") == (0, None)
    assert pids_in(small) == []


WAIT = """
import os, time

def test_wait():
    print(f"UPSTREAM_URL={os.environ['UPSTREAM_URL']}", flush=True)
    time.sleep(60)
"""


def sleepers() -> list[str]:
    """Return the processes of the command above."""
    return [line for line in command_lines() if "sleep" in line and "987" in line]


def command_lines() -> list[str]:
    """Return the command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_text(errors="replace"))
    return lines


@pytest.mark.parametrize("service", ["project", "small"])
def test_a_command_in_a_terminal(service: str, request: pytest.FixtureRequest) -> None:
    """It reads from the terminal, and decides itself what a Ctrl-C means."""
    project: Path = request.getfixturevalue(service)
    child = pexpect.spawn(
        find_uv_bin(),
        ["run", "-m", "dev", "run", "python", "-i", "-q"],
        cwd=project,
        env=clean_environment() | {"UV_PYTHON": sys.executable, "TERM": "dumb"},
        encoding="utf-8",
        timeout=30,
    )
    try:
        child.expect(">>> ")
        child.sendline("import time; print(6 * 7)")
        child.expect("42")
        # A Ctrl-C drops what the command has not read yet.
        child.sendline("print(7 * 9); time.sleep(60)")
        child.expect("63")
        child.sendcontrol("c")
        child.expect("KeyboardInterrupt")
        child.sendline("exit(5)")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
        stop_dev(project)

    assert child.exitstatus == 5
    assert processes_of(project) == []


MIGRATION = """
from alembic import op

revision = "{number}"
down_revision = "{before}"
branch_labels = None
depends_on = None

def upgrade() -> None:
    op.execute("{sql}")

def downgrade() -> None:
    op.execute("DROP TABLE {table}")
"""


def test_new_migrations_are_applied_while_it_runs(project: Path) -> None:
    """What happens is printed, and an error does not end it."""
    port = free_port()
    versions = project / "migrations" / "versions"
    second, third = versions / "8000_second.py", versions / "8001_third.py"
    (head,) = versions.glob("*.py")
    before = head.name.partition("_")[0]
    try:
        with dev(project, "--port", str(port)) as process:
            wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
            second.write_text(
                MIGRATION.format(
                    number=8000, before=before, table="second", sql="CREATE TABLE second (id int)"
                )
            )
            wait_for(lambda: "second" in tables(project), 10)
            broken = MIGRATION.format(
                number=8001, before=8000, table="third", sql="CREATE TABEL third (id int)"
            )
            wait_for(lambda: ask(port, "/health/ready")[0] == 200, 10)
            for text in (broken.replace("CREATE TABEL", "TODO: SQL that applies"), broken):
                running = {*services_of(project)}
                third.write_text(text)
                wait_for(partial(is_replaced, project, running), 20)
                wait_for(lambda: ask(port, "/health/ready")[0] == 200, 10)
            # Of another size: Python caches modules by their size, and by the second of the change.
            third.write_text(broken.replace("TABEL third (id int)", "TABLE third (id bigint)"))
            wait_for(lambda: "third" in tables(project), 10)
            wait_for(lambda: ask(port, "/health/ready")[0] == 200, 10)
            dev_command(project, "run", "alembic", "downgrade", before)
            process.terminate()
            output, _ = process.communicate(timeout=15)
    finally:
        second.unlink(missing_ok=True)
        third.unlink(missing_ok=True)

    assert f"Running upgrade {before} -> 8000" in output
    assert "Running upgrade 8000 -> 8001" in output
    assert "dev: write your SQL into migrations/versions/8001_third.py\n" in output
    assert output.count("dev: cannot apply the migrations: ") == 1
    assert 'syntax error at or near "TABEL"' in output
    assert "Traceback" not in output


def is_replaced(project: Path, running: set[int]) -> bool:
    """Return whether other processes serve than those that ran."""
    return not running & {*services_of(project)}


def tables(project: Path) -> list[str]:
    """Return the tables of the development database."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return dev_command(project, "run", "psql", "-Atc", query).output.split()


PROBE = """
import time
from urllib.request import urlopen
from quart import Blueprint, render_template, request

probe = Blueprint("probe", __name__, template_folder="pages", static_folder="files")

@probe.get("/probe")
async def answer() -> dict[str, object]:
    {code}

@probe.get("/page")
async def page() -> str:
    return await render_template("page.html")
"""


@pytest.fixture
def probe(project: Path) -> Iterator[Path]:
    """Return a module of the service with an endpoint for changes."""
    blueprints = project / "src" / "orders" / "blueprints"
    registry, module = blueprints / "__init__.py", blueprints / "probe.py"
    before = registry.read_text()
    module.write_text(PROBE.format(code='return {"version": 1}'))
    for folder, file in (("pages", "page.html"), ("files", "style.css")):
        (blueprints / folder).mkdir()
        (blueprints / folder / file).write_text('"one"')
    registry.write_text(
        re.sub(r"# Yours, .*", "from .probe import probe", before, count=1).replace(
            "    # Yours", "    probe, # Yours"
        )
    )
    yield module
    registry.write_text(before)
    module.unlink()
    shutil.rmtree(blueprints / "pages")
    shutil.rmtree(blueprints / "files")


def test_a_saved_file_is_soon_seen(project: Path, probe: Path) -> None:
    """Python, HTML and CSS; requests wait meanwhile. A service that cannot start begins again."""
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/probe") == (200, {"version": 1}), 30)
        refused = []

        def seen(path: str, answer: object) -> bool:
            status, body = ask(port, path)
            refused.extend([status] if status == 0 else [])
            return bool(status == 200 and body == answer)

        probe.write_text(PROBE.format(code='return {"version": 2}'))
        print(f"seen after {wait_for(lambda: seen('/probe', {'version': 2}), 10):.2f} s")
        probe.with_name("pages").joinpath("page.html").write_text('"two"')
        wait_for(lambda: seen("/page", "two"), 10)
        probe.with_name("files").joinpath("style.css").write_text('"two"')
        wait_for(lambda: seen("/files/style.css", "two"), 10)
        with urlopen(f"http://127.0.0.1:{port}/files/style.css", timeout=10) as response:
            cached = response.headers["Cache-Control"]
        assert refused == []

        probe.write_text("this is no Python")
        wait_for(lambda: not services_of(project), 20)
        time.sleep(1)
        probe.write_text(PROBE.format(code='return {"version": 3}'))
        wait_for(lambda: seen("/probe", {"version": 3}), 20)
        (running,) = services_of(project)
        (project / "dev" / "__init__.py").touch()
        time.sleep(1)
        assert services_of(project) == [running]
        process.terminate()
        output, _ = process.communicate(timeout=15)

    assert "dev: a file in dev/ has changed. To use it, stop with Ctrl-C and start again." in output
    assert "max-age=0" in cached
    assert "dev: the service has ended with exit code 1." in output


def test_a_blocked_service_is_replaced(project: Path, probe: Path) -> None:
    """The new one answers at once, the old one is killed, and its line was logged."""
    port = free_port()
    probe.write_text(PROBE.format(code="time.sleep(1000)"))
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        (blocked,) = services_of(project)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(3)
            probe.write_text(PROBE.format(code='return {"version": 2}'))
            answered = wait_for(lambda: ask(port, "/probe") == (200, {"version": 2}), 10)
            killed = wait_for(lambda: blocked not in services_of(project), 10)
            # It blocks again, and is told to stop meanwhile.
            probe.write_text(PROBE.format(code="time.sleep(1000)"))
            wait_for(lambda: ask(port, "/health/live")[0] == 200, 10)
            time.sleep(3)
            client.close()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(1)
            process.terminate()
            output, _ = process.communicate(timeout=15)

    print(f"answered after {answered:.2f} s, killed after {killed:.2f} s")
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in output.splitlines()]
    blocks = [line for line in lines if "event loop is blocked" in line]
    assert re.search(r"probe\.py:\d+: time\.sleep\(1000\)", blocks[0])
    assert processes_of(project) == []


def services_of(project: Path) -> list[int]:
    """Return the process IDs of the service."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_text(errors="replace")
            if line.startswith(str(project)) and "dev.app:create_app" in line:
                found.append(int(process.name))
    return found


def test_conflict_markers_are_refused(project: Path) -> None:
    """An update that was not finished is named before anything starts."""
    readme, windows = project / "README.md", project / "of Windows.md"
    before = readme.read_text()
    conflict = "\n<<<<<<< before updating\n=======\n>>>>>>> after updating\n"
    readme.write_text(before + conflict)
    windows.write_text(conflict, newline="\r\n")
    git("init", "-q", cwd=project)
    git("add", readme.name, windows.name, cwd=project)
    try:
        outcome = dev_command(project)
    finally:
        readme.write_text(before)
        windows.unlink()
        shutil.rmtree(project / ".git")

    assert outcome.code == 1
    assert outcome.output == (
        "Resolve the conflicts of the template update in: README.md, of Windows.md\n"
    )


def test_a_service_without_backends(tmp_path: Path) -> None:
    """It is served alike, and ends with what has started it."""
    project = generate(tmp_path / "orders", [], features=[])
    uv("sync", "--quiet", cwd=project)
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        process.kill()
        wait_for(lambda: not services_of(project), 5)
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        process.terminate()
        output, _ = process.communicate(timeout=15)

    assert process.returncode == 0
    assert "Traceback" not in output
    assert services_of(project) == []


CLOSED = """
from quart import Blueprint

from ..auth import current_caller, requires

blueprint = requires("things:read")(Blueprint("closed", __name__))


@blueprint.get("/closed")
async def closed() -> dict[str, str]:
    return {"subject": current_caller().subject}
"""


def test_the_printed_token_opens_what_is_closed(tmp_path: Path) -> None:
    """It has all permissions that the source names."""
    project = generate(tmp_path / "orders", [], features=["auth"])
    (project / "src" / "orders" / "blueprints" / "closed.py").write_text(CLOSED)
    register(project, "closed")
    uv("sync", "--quiet", cwd=project)
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        assert process.stdout is not None
        token = next(line.split()[1] for line in process.stdout if line.startswith("  Token"))
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        headers = {"Authorization": f"Bearer {token}"}
        without, _ = ask(port, "/closed")
        with urlopen(Request(f"http://127.0.0.1:{port}/closed", headers=headers)) as response:
            answer = json.load(response)
        process.terminate()
        process.wait(15)

    assert without == 401
    assert answer == {"subject": "developer"}
    assert processes_of(project) == []


CLOSED_FOLDER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from dev import postgres

async def ask(url, query):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()

for query in ("CREATE TABLE kept AS SELECT 1 AS one", "SELECT one FROM kept"):
    with postgres.start(Path(sys.argv[1]) / "postgres", durable=True) as server:
        print(asyncio.run(ask(server.url, query)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_a_folder_that_is_closed_to_others(project: Path, tmp_path: Path) -> None:
    """The server of root, which runs as somebody else, keeps its data there."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    script = folder / "script.py"
    script.write_text(CLOSED_FOLDER)

    outcome = run(
        *(project / ".venv" / "bin" / "python", script, folder),
        cwd=project,
        env={"PYTHONPATH": str(project)},
    )

    assert outcome.output.split() == ["None", "1"]


@pytest.fixture
def port() -> int:
    """Return a port for the service."""
    return free_port()


@pytest.fixture
def terminal(project: Path, port: int) -> Iterator["pexpect.spawn[str]"]:
    """Return `uv run -m dev` in a terminal, once it starts the service."""
    child = pexpect.spawn(
        find_uv_bin(),
        ["run", "-m", "dev", "--port", str(port)],
        cwd=project,
        env=clean_environment() | {"UV_PYTHON": sys.executable},
        encoding="utf-8",
        timeout=30,
    )
    try:
        child.expect("Ctrl-C stops everything")
        yield child
    finally:
        child.close(force=True)
        stop_dev(project)


def pids_of_dev(project: Path) -> list[int]:
    """Return the process ids of `python -m dev` of a project."""
    begin = f"{project}/.venv/bin/python".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].startswith(begin) and words[1:3] == [b"-m", b"dev"]:
                found.append(int(process.name))
    return found


def stop_dev(project: Path) -> None:
    """Stop what a test that has failed may have left running."""
    for pid in pids_of_dev(project):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not processes_of(project), 12)


def test_ctrl_c_in_a_terminal(terminal: "pexpect.spawn[str]", project: Path) -> None:
    """The whole foreground hears it, uv too; the end is a clean one all the same."""
    assert len(processes_of(project)) >= 3

    terminal.sendcontrol("c")
    terminal.expect(pexpect.EOF)
    output = terminal.before
    terminal.close()

    assert terminal.exitstatus == 0
    assert output is not None
    assert "dev: stopping" in output
    assert "Traceback" not in output
    assert processes_of(project) == []


def test_breakpoint_in_a_terminal(probe: Path, port: int, terminal: "pexpect.spawn[str]") -> None:
    """The debugger reads what you type."""
    terminal.expect("Uvicorn running")
    probe.write_text(PROBE.format(code="breakpoint(); return {}"))
    terminal.expect("Uvicorn running")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
        terminal.expect(r"\(Pdb\) ")
        terminal.sendline("p 6 * 7")
        terminal.expect("42")
        terminal.sendline("continue")
        client.settimeout(10)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_closing_the_terminal(terminal: "pexpect.spawn[str]", project: Path) -> None:
    """A window that is closed takes everything along."""
    assert len(processes_of(project)) >= 3

    terminal.close()

    wait_for(lambda: not (processes_of(project) or pids_of_dev(project)), 12)


def test_a_killed_uv_leaves_nothing(project: Path) -> None:
    """Who kills the command that they gave, kills uv, which cannot pass that on.

    Not in a terminal of its own, whose end would tell the others.
    """
    port = free_port()
    command = subprocess.Popen(
        [find_uv_bin(), "run", "-m", "dev", "--port", str(port)],
        cwd=project,
        env=clean_environment() | {"UV_PYTHON": sys.executable},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        assert len(processes_of(project)) >= 3
        command.kill()
        wait_for(lambda: not (processes_of(project) or pids_of_dev(project)), 12)
    finally:
        command.kill()
        command.wait()
        stop_dev(project)


def test_starts_without_its_backends_and_finds_them_later(
    project: Path, open_path: Path, tmp_path: Path
) -> None:
    """The production command of the README, with every backend down, which then come."""
    ports = {backend: free_port() for backend in BACKENDS}
    helper = tmp_path / "servers.py"
    helper.write_text(SERVERS_ON_PORTS)
    python = project / ".venv" / "bin" / "python"
    folder = open_path / "data"
    folder.mkdir()

    def servers(action: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [python, helper, action, folder, json.dumps(ports)],
            cwd=project,
            env=clean_environment() | {"PYTHONPATH": f"{project}:{Path(__file__).parent}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    first = servers("urls")
    urls = json.loads(first.communicate("\n")[0].splitlines()[0])
    port = free_port()
    command = re.search(r"^uvicorn [^`]*", (project / "README.md").read_text(), re.MULTILINE)
    assert command is not None
    arguments = command[0].replace("\\\n", " ").replace("--port 8000", f"--port {port}").split()
    service = subprocess.Popen(
        [project / ".venv" / "bin" / arguments[0], *arguments[1:]],
        cwd=tmp_path,
        env=clean_environment() | urls,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 15)
        status, report = ask(port, "/health/ready")
        assert status == 503
        assert {
            name: backend["status"] for name, backend in report["backends"].items()
        } == dict.fromkeys(BACKENDS, "unavailable")
        assert ask(port, "/notes")[0] == 503

        second = servers("serve")
        assert second.stdout is not None
        second.stdout.readline()
        recovered = wait_for(lambda: ask(port, "/health/ready")[0] == 200, 2)
        print(f"ready {recovered:.2f} s after the return of the servers")
        second.communicate("\n")
    finally:
        service.send_signal(signal.SIGTERM)
        log = service.communicate(timeout=15)[1]

    assert service.returncode in {0, 143, -signal.SIGTERM}
    for line in log.splitlines():
        assert json.loads(line)["event"], line
    for url in urls.values():
        if password := re.search(r"//[^/@]*:([^/@]+)@", url):
            assert password[1] not in log


SERVERS_ON_PORTS = """
import json, sys
from contextlib import ExitStack
from pathlib import Path
from service.backends import KINDS

action, folder, ports = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
names = {"upstream": "http"}
with ExitStack() as stack:
    urls = {}
    for kind in KINDS:
        port = ports[names.get(kind.NAME, kind.NAME)]
        server = stack.enter_context(kind.start(folder / kind.NAME, durable=True, port=port))
        urls[kind.VARIABLE] = server.url
        if kind.NAME == "postgres" and action == "urls":
            kind.prepare(server.url)
    print(json.dumps(urls), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_that_fails_says_why_in_one_line_per_problem(
    project: Path, backend: str, tmp_path: Path
) -> None:
    """No traceback, no value, and an exit code that supervisors notice."""
    environment = dict(URLS.values())
    variable, _ = URLS[backend]
    environment[variable] = "ftp://user:secret@localhost"
    environment["REQUEST_TIMEOUT"] = "soon"

    outcome = run(
        *(project / ".venv" / "bin" / "uvicorn", "--factory", "orders.app:create_app"),
        *("--port", str(free_port())),
        cwd=tmp_path,
        env=environment,
        check=False,
    )

    assert outcome.code == 1, outcome.output
    lines = [line for line in outcome.output.splitlines() if not line.startswith("INFO")]
    assert [line.partition(":")[0] for line in lines] == ["REQUEST_TIMEOUT", variable]
    assert "secret" not in outcome.output


def test_the_wheel_holds_the_service_and_no_tools(project: Path, tmp_path: Path) -> None:
    """What is shipped is the package, without dev/ and tests/."""
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, cwd=project)
    (wheel,) = tmp_path.glob("*.whl")
    listed = run("python3", "-m", "zipfile", "-l", wheel, cwd=tmp_path).output

    assert "orders/app.py" in listed
    assert "dev/" not in listed
    assert "tests/" not in listed
    assert wheel.stat().st_size < 200_000
