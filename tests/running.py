"""What the tests of running services share: `python -m dev`, questions to it, waiting."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from harness import clean_environment, processes_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """Return the path of a browser, if any of BROWSERS is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


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
def dev(
    project: Path, *options: str, prefix: Sequence[str] = (), **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m dev` in a project; it is killed at the end if it still runs.

    What it has printed is shown when the test fails. prefix: a program that runs it, with options.
    """
    process = subprocess.Popen(
        [*prefix, project / ".venv" / "bin" / "python", "-m", "dev", *options],
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
        # A process that stays behind would hold the pipe.
        print(process.communicate(timeout=15)[0])
        wait_for(lambda: not processes_of(project), 12)
