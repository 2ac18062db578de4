"""Load on one endpoint, and what it cost the server."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

TICKS = os.sysconf("SC_CLK_TCK")

PATIENCE = 120.0
"""Seconds after which a run has gone wrong."""


@dataclass(frozen=True)
class Sample:
    """One run: requests per second, and per second of the server's CPU; times in seconds."""

    rate: float
    per_cpu: float
    p50: float
    p99: float
    failed: int

    def as_json(self) -> dict[str, float]:
        """Return what is written down."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def load(url: str, connections: int, seconds: float, pid: int, body: str = "") -> Sample:
    """Request a URL on some connections for some seconds, from a core of its own.

    body: JSON to post. It uses wrk where that is installed (`apt-get install wrk`), or else a
    client in Python. That client is slower, so compare its figures only with each other.
    """
    before = cpu(pid)
    client = wrk if shutil.which("wrk") else slow
    command = client(url, connections, seconds, body)
    done = subprocess.run(
        ["taskset", "-c", "1", *command],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    used = max(cpu(pid) - before, 1 / TICKS)
    summary = re.search(r"(\d+) requests in ([\d.]+\w+),", done.stdout)
    assert summary, done.stdout
    requests, took = summary.groups()
    refused = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", done.stdout)))
    good = int(requests) - refused
    lost = re.findall(r"read (\d+), write (\d+), timeout (\d+)", done.stdout)
    failed = refused + sum(int(number) for numbers in lost for number in numbers)
    return Sample(
        rate=good / in_seconds(took),
        per_cpu=good / used,
        p50=percentile(done.stdout, "50%"),
        p99=percentile(done.stdout, "99%"),
        failed=failed,
    )


def wrk(url: str, connections: int, seconds: float, body: str) -> list[str]:
    """Return the command line of wrk."""
    script = ("--script", str(Path(__file__).with_name("post.lua"))) if body else ()
    data = ("--", body) if body else ()
    return [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        *(
            "--duration",
            f"{max(1, round(seconds))}s",
            "--timeout",
            "10s",
            "--latency",
            *script,
            url,
            *data,
        ),
    ]


def slow(url: str, connections: int, seconds: float, body: str) -> list[str]:
    """Return the command line of the client in Python, which prints as wrk does."""
    client = Path(__file__).with_name("client.py")
    return [sys.executable, str(client), url, str(connections), str(seconds), body]


def in_seconds(text: str) -> float:
    """Return a time of wrk, such as 1.20ms, in seconds."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    assert found, text
    number, unit = found.groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[unit]


def percentile(output: str, name: str) -> float:
    """Return a percentile of the latency, in seconds."""
    found = re.search(rf"{re.escape(name)}\s+([\d.]+\w+)", output)
    return in_seconds(found[1]) if found else 0.0


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of its children so far."""
    total = 0
    for process in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    children: list[str] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def wait(url: str, seconds: float = 20) -> None:
    """Wait until a URL answers well; raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=5):  # noqa: S310 - of our own servers
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(url)
