"""`uv run -m dev` and the production command, as users run them: real processes, real signals."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from harness import BACKENDS, clean_environment, generate, opened, processes_of, run, uv

pytestmark = pytest.mark.slow

URLS = {
    "postgres": ("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none"),
    "mongo": ("MONGODB_URI", "mongodb://127.0.0.1:1/none"),
    "redis": ("REDIS_URL", "redis://127.0.0.1:1/0"),
    "http": ("UPSTREAM_URL", "http://127.0.0.1:1"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an installed service with all backends."""
    folder = generate(opened(tmp_path_factory.mktemp("dev")) / "orders")
    uv("sync", "--quiet", cwd=folder)
    return folder


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    """Return the status and the JSON of an answer; (0, None) when there is none."""
    request = Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)
    except (URLError, OSError):
        return 0, None


def wait_for(condition: Callable[[], object], seconds: float) -> float:
    """Wait until a condition holds, and return how long that took; fails after some seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def dev(project: Path, *options: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m dev` in a project; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [project / ".venv" / "bin" / "python", "-m", "dev", *options],
        cwd=project,
        env=clean_environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_for(lambda: not processes_of(project), 12)


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

    printed = dict(line.strip().split("=", 1) for line in lines if re.match("[A-Z_]+=", line))
    assert set(printed) == {"MONGODB_URI", "REDIS_URL", "UPSTREAM_URL"}
    assert "PostgreSQL: using DATABASE_URL\n" in lines
    assert "secret" not in "".join(lines)


def test_starts_without_its_backends_and_finds_them_later(project: Path, tmp_path: Path) -> None:
    """The production command of the README, with every backend down, which then come."""
    ports = {backend: free_port() for backend in BACKENDS}
    helper = tmp_path / "servers.py"
    helper.write_text(SERVERS_ON_PORTS)
    python = project / ".venv" / "bin" / "python"
    folder = opened(tmp_path) / "data"
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
