"""Generates a service with all backends and runs it on embedded servers.

python demo.py                  into ./demo-service, until Ctrl-C
python demo.py --check          elsewhere, asks it a few questions, and stops it
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from copier import run_copy
from copier.errors import DirtyLocalWarning
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent

START_TIMEOUT = 120.0
"""Seconds that the service may take, with the installation of its packages."""

STOP_TIMEOUT = 20.0
"""Seconds that the service and its servers may take to end."""

QUESTIONS: list[tuple[str, str, dict[str, str | float] | None]] = [
    ("GET", "/health/ready", None),
    ("POST", "/notes", {"title": "A row in PostgreSQL"}),
    ("POST", "/events", {"kind": "demo", "amount": 1.5}),
    ("POST", "/counters/demo", None),
    ("GET", "/weather/Berlin", None),
    ("GET", "/overview", None),
]
"""Method, path and JSON body: the readiness, one example of each backend, and all of them."""


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description="Generate a service with all backends and run it.")
    parser.add_argument("--dir", type=Path, help="where to generate it (default: ./demo-service)")
    parser.add_argument("--check", action="store_true", help="ask it a few questions and stop it")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.dir:
            directory: Path = arguments.dir
        elif arguments.check:
            parent = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # PostgreSQL refuses to run as root, and must get here as somebody else.
            parent.chmod(0o711)
            directory = parent / "demo-service"
        else:
            directory = Path("demo-service")
        if directory.exists() and any(directory.iterdir()):
            print(f"demo: {directory} is there already; remove it, or choose another DIR=")
            return 1
        began = time.monotonic()
        generate(directory)
        print(f"demo: generated {directory} in {time.monotonic() - began:.1f} s")
        return check(directory) if arguments.check else serve(directory)


def generate(directory: Path) -> None:
    """Generate a service with all backends from the template as it stands here."""
    with warnings.catch_warnings():
        # Changes that are not committed yet are meant to be tried, too.
        warnings.simplefilter("ignore", DirtyLocalWarning)
        run_copy(
            str(ROOT),
            directory,
            data={"project_name": "Demo Service"},
            defaults=True,
            vcs_ref="HEAD",
            quiet=True,
        )


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service for development until the end of the `with` block."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [find_uv_bin(), "run", "--quiet", "-m", "dev", *options]
    process = subprocess.Popen(command, cwd=directory, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT)


def serve(directory: Path) -> int:
    """Run the service until Ctrl-C."""
    with running(directory) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait(STOP_TIMEOUT)


def check(directory: Path) -> int:
    """Ask the running service the questions; return 0 if every answer is a success, else 1."""
    began = time.monotonic()
    port = free_port()
    with running(directory, "--port", str(port)) as process:
        while ask(port, "GET", "/health/live")[0] != HTTPStatus.OK:
            if process.poll() is not None or time.monotonic() - began > START_TIMEOUT:
                print("demo: the service did not start")
                return 1
            time.sleep(0.05)
        print(f"demo: first answer {time.monotonic() - began:.1f} s after generation")
        failed = 0
        for method, path, body in QUESTIONS:
            status, answer = ask(port, method, path, body)
            failed += status not in (HTTPStatus.OK, HTTPStatus.CREATED)
            print(f"\n{method} {path}\n{status} {answer}")
    print(f"\ndemo: {failed or 'none'} of {len(QUESTIONS)} answers wrong")
    return 1 if failed else 0


def ask(
    port: int, method: str, path: str, body: dict[str, str | float] | None = None
) -> tuple[int, str]:
    """Return the status and the body of an answer; (0, why) when there is none."""
    request = Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except (URLError, OSError) as error:
        return 0, str(error)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
