"""Generate a service with all backends and run it.

python tools/demo.py            in ./demo-service, until Ctrl-C
python tools/demo.py --check    in a temporary folder: ask some endpoints, print the answers, stop
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
from collections.abc import Iterable, Iterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from copier import run_copy
from copier.errors import DirtyLocalWarning
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent

MARK = ".demo.json"
"""The file in a demo's folder that lists what was generated, with checksums."""

START_TIMEOUT = 120.0
"""Seconds to wait for the first answer, which includes the installation of packages."""

STOP_TIMEOUT = 20.0
"""Seconds to wait until the service and its servers have stopped."""

QUESTIONS: list[tuple[str, str, dict[str, str | float] | None]] = [
    ("GET", "/health/ready", None),
    ("POST", "/notes", {"title": "A row in PostgreSQL"}),
    ("POST", "/events", {"kind": "demo", "amount": 1.5}),
    ("POST", "/counters/demo", None),
    ("GET", "/weather/Berlin", None),
    ("GET", "/overview", None),
]
"""Method, path and JSON body: the readiness check, one example per backend, and all of them."""


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description="Generate a service with all backends and run it.")
    parser.add_argument("--dir", type=Path, help="where to generate it (default: ./demo-service)")
    parser.add_argument("--check", action="store_true", help="ask some endpoints and stop")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.dir:
            directory: Path = arguments.dir
        elif arguments.check:
            parent = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # PostgreSQL does not run as root. It needs access from another account.
            parent.chmod(0o711)
            directory = parent / "demo-service"
        else:
            directory = Path("demo-service")
        if not prepare(directory):
            print(f"demo: {directory} holds something else; remove it, or choose another DIR=")
            return 1
        return check(directory) if arguments.check else serve(directory)


def prepare(directory: Path) -> bool:
    """Generate the service, or replace the files of an earlier demo. Edited files are kept.

    Returns False, and changes nothing, if the folder holds anything but a demo.
    """
    mark = directory / MARK
    if directory.is_dir() and any(directory.iterdir()):
        if not mark.is_file():
            return False
        generated: dict[str, str] = json.loads(mark.read_text())
        if checksums(directory, generated) != generated:
            print(f"demo: running {directory} with your edits; remove it for a new one")
            return True
        for name in generated:
            (directory / name).unlink()
    began = time.monotonic()
    before = set(names(directory))
    generate(directory)
    mark.write_text(json.dumps(checksums(directory, set(names(directory)) - before)))
    print(f"demo: generated {directory} in {time.monotonic() - began:.1f} s")
    return True


def names(directory: Path) -> Iterator[str]:
    """Yield the names of the files in a folder, without those of environments and servers."""
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name not in {".dev", ".git", ".venv"}]
        for name in files:
            yield (Path(folder) / name).relative_to(directory).as_posix()


def checksums(directory: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the checksum of each file, by name. Missing files are left out."""
    return {
        name: sha256((directory / name).read_bytes()).hexdigest()
        for name in files
        if (directory / name).is_file()
    }


def generate(directory: Path) -> None:
    """Generate a service with all backends from this working tree."""
    with warnings.catch_warnings():
        # The demo is also for changes that are not committed yet.
        warnings.simplefilter("ignore", DirtyLocalWarning)
        run_copy(
            str(ROOT),
            directory,
            data={"project_name": "Demo Service"},
            defaults=True,
            overwrite=True,
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
    """Ask the running service. Return 0 if every answer is a success, else 1."""
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
    """Return the status and the body of an answer; (0, why) without one."""
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
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
