"""Serve with 1, 2 and 4 processes, and replace processes behind a proxy.

    make bench SCALE=1

It takes some three minutes, and writes benchmarks/results/scale.json, which the page *Scale*
quotes. The second part needs HAProxy: `apt-get install haproxy`.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness import ROOT, generate, template, uv
from running import free_port

from benchmarks.__main__ import SERVICE, servers
from benchmarks.load import Sample, family, load, wait
from benchmarks.rollout import PRE_STOP, roll_out

RESULTS = ROOT / "benchmarks" / "results" / "scale.json"

PROCESSES = (1, 2, 4)

ENDPOINTS = {"json": 50, "postgres": 50, "upstream": 500}
"""Paths, and connections: a constant, a row, and a wait of 50 ms for another service."""

ROUNDS, SECONDS = 5, 2.0

COUNT = """
import asyncio, os, asyncpg

async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    print(await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orders'"
    ))
    await connection.close()

asyncio.run(main())
"""


def main() -> int:
    """Measure both, and return 1 when a rollout lost a request."""
    if not shutil.which("haproxy"):
        sys.exit("HAProxy is missing: apt-get install haproxy")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        folder.chmod(0o755)
        project = generate(folder / "orders")
        uv("sync", "--quiet", cwd=project)
        shutil.rmtree(template())
        environment = stack.enter_context(servers(project))
        with ExitStack() as running:
            processes = grow(running, project, environment)
        rollouts = []
        for pre_stop in (PRE_STOP, 0.0):
            files = folder / f"proxy-{pre_stop:.0f}"
            rollout = roll_out(project, environment, SERVICE, files, pre_stop)
            rollouts.append(asdict(rollout))
            print(rollout, flush=True)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "processes": processes,
        "rollouts": rollouts,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if rollouts[0]["lost"] else 0


def grow(stack: ExitStack, project: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Measure services with different numbers of processes, which may use all cores, in turn."""
    services: dict[int, tuple[str, int]] = {}
    results: dict[int, dict[str, Any]] = {}
    connections = 0
    for number in PROCESSES:
        services[number] = stack.enter_context(served(number, project, environment))
        before, connections = connections, connections_of(project, environment)
        results[number] = {
            "processes": number,
            "postgresql_connections": connections - before,
            "megabytes_each": memory(services[number][1]),
        }
    samples: dict[tuple[int, str], list[Sample]] = {}
    for _ in range(ROUNDS):
        for endpoint, clients in ENDPOINTS.items():
            for number, (url, pid) in services.items():
                sample = load(f"{url}/{endpoint}", clients, SECONDS, pid)
                samples.setdefault((number, endpoint), []).append(sample)
    for number, result in results.items():
        result["endpoints"] = {each: middle(samples[number, each]) for each in ENDPOINTS}
        print(result, flush=True)
    return list(results.values())


@contextmanager
def served(number: int, project: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Run a service with a number of processes; return its URL and its first process."""
    port = free_port()
    program, *options = SERVICE.format(port=port).split()
    program = str(project / ".venv" / "bin" / program)
    with subprocess.Popen(
        [program, *options, "--workers", str(number)],
        cwd=project,
        env=dict(environment),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for endpoint in ENDPOINTS:
                wait(f"{url}/{endpoint}")
                # So that each process has its connections before it is measured.
                load(f"{url}/{endpoint}", 50 * number, 1, process.pid)
            yield url, process.pid
        finally:
            process.terminate()


def middle(samples: list[Sample]) -> dict[str, float]:
    """Return the medians of some runs; of the failures, the sum."""
    return {
        "rate": round(median(sample.rate for sample in samples)),
        "per_cpu": round(median(sample.per_cpu for sample in samples)),
        "p99": round(median(sample.p99 for sample in samples), 4),
        "failed": sum(sample.failed for sample in samples),
    }


def connections_of(project: Path, environment: Mapping[str, str]) -> int:
    """Return how many connections PostgreSQL has from the service."""
    asked = subprocess.run(
        [project / ".venv" / "bin" / "python", "-c", COUNT],
        check=True,
        env=dict(environment),
        capture_output=True,
        text=True,
    )
    return int(asked.stdout)


def memory(pid: int) -> int:
    """Return the megabytes that the largest process of a service uses."""
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid)]
    return round(max(sizes) * page / 1e6)


if __name__ == "__main__":
    sys.exit(main())
