"""Generates a service and serves the same six endpoints with it and with others, side by side.

    make bench          all of it: some ten minutes
    make bench QUICK=1  a part of it, once: two minutes

Prints the ratios that are aimed at, and whether they hold. A full run writes results and a plot.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness import generate, uv
from running import free_port

from benchmarks import plots
from benchmarks.load import Sample, load, wait
from benchmarks.making import making

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

EXTRA = ["fastapi", "flask", "gunicorn", "hypercorn", "psycopg2-binary", "requests"]

UVICORN = "uvicorn --log-level warning --no-access-log --http httptools --loop uvloop --port {port}"
GUNICORN = "gunicorn --log-level warning -k gthread -w 1 --threads {threads} -b 127.0.0.1:{port}"

SERVICE = (
    "uvicorn --factory contenders.service:create_app --host 127.0.0.1 --port {port}"
    " --timeout-graceful-shutdown 10 --no-access-log --no-server-header"
)
"""The command in the README of a service, with endpoints for the benchmark."""

CONTENDERS = {
    "service": SERVICE,
    "service-500": SERVICE,
    "fastapi": UVICORN + " contenders.fast_api:app",
    "raw": UVICORN + " contenders.raw:app",
    "quart": "hypercorn --log-level warning -b 127.0.0.1:{port} contenders.plain_quart:app",
    "blocked": UVICORN + " contenders.blocked_quart:app",
    **{
        f"flask-{threads}": GUNICORN.replace("{threads}", str(threads))
        + " contenders.flask_app:app"
        for threads in (1, 8, 50, 200)
    },
}
"""How each one is started."""

VARIABLES = {"service-500": {"UPSTREAM_POOL_SIZE": "500"}}
"""What some of them find in their environment, besides where the backends are."""

ASYNC = ["service", "fastapi", "raw", "quart"]
THREADS = ["flask-1", "flask-8", "flask-50", "flask-200"]
ENDPOINTS = ["json", "postgres", "mongo", "redis", "upstream", "all"]

FULL = (
    [(name, endpoint, 50) for endpoint in ENDPOINTS for name in ASYNC]
    + [(name, endpoint, 500) for endpoint in ("json", "postgres", "upstream") for name in ASYNC]
    + [
        (name, "upstream", connections)
        for connections in (1, 50, 500)
        for name in ("service", *THREADS, "blocked")
        if (name, connections) not in {("service", 50), ("service", 500)}
    ]
    + [("service-500", "upstream", 500)]
    + [(name, "postgres", 50) for name in ("flask-8", "flask-50", "blocked")]
)
QUICK = [(name, endpoint, 50) for endpoint in ("json", "postgres") for name in ASYNC] + [
    (name, "upstream", 500) for name in ("service", "service-500", "flask-50", "blocked")
]


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rounds, seconds = (1, 2) if quick else (3, 2)
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        project = prepare(folder)
        environment = stack.enter_context(servers(project))
        drivers = ask_drivers(project, environment, seconds)
        running = {
            name: stack.enter_context(served(name, project, environment))
            for name in sorted({name for name, _, _ in (QUICK if quick else FULL)})
        }
        samples = measure(running, QUICK if quick else FULL, rounds, seconds)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": rounds,
        "seconds_each": seconds,
        "drivers": drivers,
        "samples": [
            {"contender": name, "endpoint": endpoint, "connections": connections}
            | {"runs": [sample.as_json() for sample in runs]}
            for (name, endpoint, connections), runs in samples.items()
        ],
        "making": making(1 if quick else 5),
    }
    result["ratios"] = ratios(samples, result["making"])
    for line in report(result["ratios"]):
        print(line)
    print(f"It took {time.monotonic() - began:.0f} s.")
    if not quick:
        (HERE / "results" / "serving.json").write_text(json.dumps(result, indent=1) + "\n")
        plots.write(result, ROOT / "docs" / "images")
    return 0


def prepare(folder: Path) -> Path:
    """Generate the service, and install it with the packages of the others."""
    project = generate(folder / "orders")
    uv("sync", "--quiet", cwd=project)
    python = project / ".venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, *EXTRA, cwd=project)
    return project


@contextmanager
def databases(project: Path, *names: str) -> Iterator[dict[str, str]]:
    """Run the development servers of a project, beside the load; yield the named variables."""
    python = project / ".venv" / "bin" / "python"
    with subprocess.Popen(
        ["taskset", "-c", "1", python, "-m", "dev", "services"],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
    ) as services:
        try:
            variables: dict[str, str] = {}
            assert services.stdout is not None
            for line in services.stdout:
                if found := re.fullmatch(r"([A-Z_]+)=(.*)\n", line):
                    variables[found[1]] = found[2]
                if set(names) <= set(variables):
                    break
            yield variables
        finally:
            services.terminate()


@contextmanager
def servers(project: Path) -> Iterator[dict[str, str]]:
    """Run all databases and the slow web service; yield the environment of the contenders."""
    port = free_port()
    python = str(project / ".venv" / "bin" / "python")
    slow = ["taskset", "-c", "1", python, str(HERE / "contenders" / "slow.py"), str(port)]
    urls = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "UPSTREAM_URL")
    with databases(project, *urls) as variables, subprocess.Popen(slow) as process:
        try:
            environment = os.environ | variables | {"PYTHONPATH": str(HERE)}
            environment |= {"SLOW_URL": f"http://127.0.0.1:{port}/", "LOG_LEVEL": "WARNING"}
            subprocess.run(
                [python, "-m", "contenders.seed"], check=True, cwd=project, env=environment
            )
            yield environment
        finally:
            process.kill()


def ask_drivers(project: Path, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    """Return what the clients reach without a server."""
    done = subprocess.run(
        [project / ".venv/bin/python", "-m", "contenders.drivers", str(seconds)],
        check=True,
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def served(name: str, project: Path, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Run a contender on a core of its own; return its URL and its process."""
    port = free_port()
    program, *options = CONTENDERS[name].format(port=port).split()
    with subprocess.Popen(
        ["taskset", "-c", "0", project / ".venv" / "bin" / program, *options],
        cwd=project,
        env=environment | VARIABLES.get(name, {}),
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait(f"{url}/json")
            for endpoint in ENDPOINTS:
                wait(f"{url}/{endpoint}")
            yield url, process.pid
        finally:
            process.terminate()


Key = tuple[str, str, int]


def measure(
    running: dict[str, tuple[str, int]], plan: list[Key], rounds: int, seconds: float
) -> dict[Key, list[Sample]]:
    """Go through the plan several times, so that what disturbs disturbs all."""
    samples: dict[Key, list[Sample]] = {key: [] for key in plan}
    for number in range(rounds):
        for name, endpoint, connections in plan:
            url, pid = running[name]
            # What the run before has left there must be over.
            wait(f"{url}/json", 60)
            sample = load(f"{url}/{endpoint}", connections, seconds, pid)
            samples[name, endpoint, connections].append(sample)
            print(
                f"{number + 1}/{rounds} {name:10} {endpoint:9} {connections:4}"
                f" {sample.rate:8.0f}/s {sample.per_cpu:8.0f}/cpu-s"
                f" p50 {sample.p50 * 1000:7.1f} ms p99 {sample.p99 * 1000:7.1f} ms"
                f"{f' {sample.failed} FAILED' if sample.failed else ''}",
                flush=True,
            )
    return samples


def ratios(samples: dict[Key, list[Sample]], made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each promised ratio, with its target and whether it holds."""

    def middle(key: Key, field: str = "per_cpu") -> float:
        return float(median(getattr(sample, field) for sample in samples[key]))

    found: dict[str, tuple[float, float]] = {}
    for other, target in (("raw", 0.60), ("fastapi", 1.0), ("quart", 2.5)):
        key = ("service", "postgres", 50)
        found[f"a row, service to {other}"] = (
            middle(key) / middle((other, "postgres", 50)),
            target,
        )
    if ("service", "upstream", 500) in samples:
        best = {
            kind: max(
                middle(each, "rate")
                for each in samples
                if each[0].startswith(kind) and each[1:] == ("upstream", 500)
            )
            for kind in ("service", "flask")
        }
        found["50 ms upstream at 500 connections, service to Flask, each at its best"] = (
            best["service"] / best["flask"],
            3.0,
        )
    if ("service", "postgres", 500) in samples:
        key = ("service", "postgres", 500)
        found["p50 to p99 at 500 connections, times two"] = (
            2 * middle(key, "p50") / middle(key, "p99"),
            1.0,
        )
    found["copying an empty template to copying this one, times 1.25"] = (
        1.25 * made["empty copy"] / made["copy"],
        1.0,
    )
    found["1.6 s to updating"] = (1.6 / made["update"], 1.0)
    return {
        name: {"ratio": round(ratio, 2), "target": target, "holds": ratio >= target}
        for name, (ratio, target) in found.items()
    }


def report(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each ratio."""
    return [
        f"{'holds ' if each['holds'] else 'MISSED'} {name}: {each['ratio']}"
        f" (target {each['target']})"
        for name, each in found.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
