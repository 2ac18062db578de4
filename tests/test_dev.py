"""`uv run -m dev` and the production command, as users run them: real processes, real signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest
from harness import (
    BACKENDS,
    URLS,
    clean_environment,
    generate,
    open_folder,
    processes_of,
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


def test_notes_survive_a_kill_and_nothing_else_does(project: Path) -> None:
    """After SIGKILL no server is left, and the next start has the data."""
    port = free_port()
    with dev(project, "--port", str(port)) as process:
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        status, note = ask(port, "/notes", {"title": "survivor"})
        assert status == 201
        assert len(processes_of(project)) >= 5
        process.kill()
        print(f"gone after {wait_for(lambda: not processes_of(project), 12):.1f} s")

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


def test_only_one_runs_in_a_folder(project: Path) -> None:
    """A second one says so in one line, and harms nothing."""
    port = free_port()
    with dev(project, "--port", str(port)):
        wait_for(lambda: ask(port, "/health/live")[0] == 200, 30)
        with_conflict = run(
            *(project / ".venv" / "bin" / "python", "-m", "dev"), cwd=project, check=False
        )
        assert ask(port, "/health/ready")[0] == 200

    assert with_conflict.code == 1
    assert with_conflict.output.splitlines() == ["dev: it is running already in this folder"]


def test_a_taken_port(project: Path) -> None:
    """One that was asked for is not silently replaced."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = run(
            *(project / ".venv" / "bin" / "python", "-m", "dev", "--port", str(port)),
            cwd=project,
            check=False,
        )

    assert outcome.code == 1
    assert outcome.output == f"dev: port {port} is taken; give another one with --port\n"


def test_wrong_arguments(project: Path) -> None:
    """One line, and the usual exit code."""
    outcome = run(
        *(project / ".venv" / "bin" / "python", "-m", "dev", "--prot=1"),
        cwd=project,
        check=False,
    )

    assert outcome.code == 2
    assert len(outcome.output.splitlines()) == 1
    assert "--prot" in outcome.output


def test_services_prints_variables_to_copy(project: Path) -> None:
    """A configured server is used, and not started."""
    configured = "postgresql://somebody:secret@127.0.0.1:1/elsewhere"
    with dev(project, "services", DATABASE_URL=configured) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10)]
        started = " ".join(processes_of(project))

    assert "mongod" in started
    assert "postgres" not in started
    printed = dict(line.strip().split("=", 1) for line in lines if re.match("[A-Z_]+=", line))
    assert set(printed) == {"MONGODB_URI", "REDIS_URL", "UPSTREAM_URL"}
    assert "PostgreSQL: using DATABASE_URL\n" in lines
    assert "secret" not in "".join(lines)


def test_a_configured_database_is_the_one_that_is_migrated(project: Path) -> None:
    """Nothing is started in its place, even when it does not answer."""
    with dev(project, DATABASE_URL=URLS["postgres"][1]) as process:
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "PostgreSQL: using DATABASE_URL\n" in output
    refused = [line for line in output.splitlines() if line.startswith("dev: ")]
    assert len(refused) == 1, output
    assert refused[0].startswith("dev: PostgreSQL: cannot log in at DATABASE_URL: ")
    assert "Traceback" not in output
    assert "PostgreSQL: starting" not in output
    assert "secret" not in output
    assert processes_of(project) == []


FOLDERS_THAT_OPEN_AND_CLOSE = """
import asyncio, sys
from pathlib import Path
import asyncpg
from dev import postgres
from dev.server import CannotStart

async def ask(url, query):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()

for first, then in ((0o711, 0o700), (0o700, 0o711)):
    parent = Path(sys.argv[1]) / oct(first)
    parent.mkdir(mode=first)
    with postgres.start(parent / "postgres", durable=True) as server:
        asyncio.run(ask(server.url, "CREATE TABLE kept AS SELECT 1 AS one"))
    parent.chmod(then)
    try:
        with postgres.start(parent / "postgres", durable=True) as server:
            print(asyncio.run(ask(server.url, "SELECT one FROM kept")))
            print((parent / "postgres").joinpath("files").resolve())
    except CannotStart as refused:
        print(refused)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_kept_data_does_not_vanish_with_a_permission(project: Path) -> None:
    """A folder that is closed to others later hides the data: that is said, and nothing begun anew.

    One that is opened later changes nothing: the data stay where they have been.
    """
    with open_folder() as folder:
        script = folder / "script.py"
        script.write_text(FOLDERS_THAT_OPEN_AND_CLOSE)
        outcome = run(
            *(project / ".venv" / "bin" / "python", script, folder),
            cwd=project,
            env={"PYTHONPATH": str(project)},
        )

    closed, opened, home = outcome.output.splitlines()
    shutil.rmtree(home)
    assert "chmod o+x" in closed
    assert opened == "1"


@pytest.fixture
def terminal(project: Path) -> Iterator["pexpect.spawn[str]"]:
    """Return `uv run -m dev` in a terminal, once it serves."""
    child = pexpect.spawn(
        find_uv_bin(),
        ["run", "-m", "dev", "--port", str(free_port())],
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
    assert len(processes_of(project)) >= 5

    terminal.sendcontrol("c")
    terminal.expect(pexpect.EOF)
    output = terminal.before
    terminal.close()

    assert terminal.exitstatus == 0
    assert output is not None
    assert "dev: stopping" in output
    assert "Traceback" not in output
    assert processes_of(project) == []


def test_closing_the_terminal(terminal: "pexpect.spawn[str]", project: Path) -> None:
    """A window that is closed takes everything along."""
    assert len(processes_of(project)) >= 5

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
        assert len(processes_of(project)) >= 5
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
            env=clean_environment() | {"PYTHONPATH": str(project)},
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
from dev import SERVERS

action, folder, ports = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
names = {"upstream": "http"}
with ExitStack() as stack:
    urls = {}
    for kind in SERVERS:
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
    """What is shipped is the package with its templates, without dev/ and tests/."""
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, cwd=project)
    (wheel,) = tmp_path.glob("*.whl")
    listed = run("python3", "-m", "zipfile", "-l", wheel, cwd=tmp_path).output

    assert "orders/examples/templates/welcome.html" in listed
    assert "dev/" not in listed
    assert "tests/" not in listed
    assert wheel.stat().st_size < 200_000
