"""A generated service beside FastAPI with equal duties, plain Quart, and what others generate.

    make bench EQUAL=1           this comparison alone
    make bench EQUAL=1 PEERS=1   with projects of other templates, from PyPI

All run at the same time on the same PostgreSQL and Redis, and take turns. A ratio is that of the
requests per CPU second of a contender to those of the service in the same round.

The machine must be quiet. On a busy one, a server whose log has a thread got four times the turns
on its core of one without, and needed a quarter less CPU for each request: 3,142 to 2,350/s for the
same service at INFO and at WARNING.
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
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness import ROOT, generate, uv

from benchmarks.__main__ import HERE, SERVICE, databases
from benchmarks.compare import ENDPOINTS, fill
from benchmarks.contender import Contender
from benchmarks.load import Sample, family, load, wait
from benchmarks.peers import peers

ROUNDS, SECONDS = 5, 2.0

QUIET = 1.0
"""A load average below which the ratios can be trusted."""

RESULTS = HERE / "results" / "equal.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- The table of `make bench` -->\n", "<!-- The end of the table -->\n"

OURS = "the service"
BUSY = "a row, 500 connections"


def contenders(folder: Path) -> dict[str, Contender]:
    """Generate and install the service, and return it with the others that use its Python."""
    project = generate(folder / "orders", backends=["postgres", "redis"])
    uv("sync", "--quiet", cwd=project)
    python = project / ".venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "fastapi", cwd=project)
    ours = f"{python} -m {SERVICE.replace('contenders.service', 'contenders.equal.service')}"
    quart = f"{python} -m uvicorn contenders.equal.quart_app:app --port {{port}}"
    # It writes lines of its own, as the service does.
    fastapi = quart.replace("quart_app", "fastapi_app") + " --no-access-log"
    path = {"PYTHONPATH": str(HERE)}
    found: dict[str, Contender] = {}
    for name, command, variables in (
        (OURS, ours, {}),
        ("the same, `LOG_LEVEL=WARNING`", ours, {"LOG_LEVEL": "WARNING"}),
        ("FastAPI, equal duties", fastapi, {}),
        ("Quart alone, uvicorn's log", quart, {}),
        ("Quart alone, no log", f"{quart} --no-access-log", {}),
    ):
        found[name] = Contender(command, project, path | variables)
    return found


def measure(with_peers: bool, rounds: int, seconds: float) -> dict[str, Any]:
    """Run all of them, and return what they did."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        plan = contenders(folder)
        project = plan[OURS].folder
        urls = databases(project, "DATABASE_URL", "REDIS_URL")
        environment = os.environ | stack.enter_context(urls)
        if with_peers:
            plan |= peers(folder, environment)
        migrate = [str(project / ".venv/bin/alembic"), "upgrade", "head"]
        subprocess.run(migrate, check=True, cwd=project, env=environment)
        running = {
            name: stack.enter_context(contender.served(environment))
            for name, contender in plan.items()
        }
        idle = {name: memory(pid) for name, (_, pid) in running.items()}
        samples = take_turns(running, rounds, seconds)
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": versions(project),
            "rounds": rounds,
            "seconds_each": seconds,
            "contenders": {
                name: {
                    "idle_mib": idle[name],
                    "samples": {
                        endpoint: [sample.as_json() for sample in runs]
                        for endpoint, runs in samples[name].items()
                    },
                }
                for name in plan
            },
        }


def take_turns(
    running: dict[str, tuple[str, int]], rounds: int, seconds: float
) -> dict[str, dict[str, list[Sample]]]:
    """Load each endpoint of each contender in turn, after a check that it answers well."""
    for url, _ in running.values():
        fill(url)
        for path, _, body in ENDPOINTS.values():
            if not body:
                wait(url + path)
    samples: dict[str, dict[str, list[Sample]]] = {
        name: {endpoint: [] for endpoint in ENDPOINTS} for name in running
    }
    for number in range(rounds):
        first = number % len(running)
        for endpoint, (path, connections, body) in ENDPOINTS.items():
            for name in [*running][first:] + [*running][:first]:
                url, pid = running[name]
                # What the run before has left there must be over.
                wait(f"{url}/json", 60)
                sample = load(url + path, connections, seconds, pid, body)
                samples[name][endpoint].append(sample)
                print(line(f"{number + 1}/{rounds}", name, endpoint, sample), flush=True)
    return samples


def line(turn: str, name: str, endpoint: str, sample: Sample) -> str:
    """Return what a run did."""
    failed = f" {sample.failed} FAILED" if sample.failed else ""
    return (
        f"{turn} {name:30} {endpoint:23} {sample.per_cpu:7.0f}/cpu-s"
        f" p50 {sample.p50 * 1000:7.1f} ms p99 {sample.p99 * 1000:7.1f} ms{failed}"
    )


def memory(pid: int) -> int:
    """Return the resident memory of a process and all below it, in MiB."""
    statuses = [Path(f"/proc/{each}/status").read_text() for each in family(pid)]
    return sum(int(kib) for each in statuses for kib in re.findall(r"VmRSS:\s+(\d+)", each)) // 1024


def versions(project: Path) -> dict[str, str]:
    """Return the versions of the frameworks that a service's environment has."""
    frozen = uv("pip", "freeze", "--python", project / ".venv/bin/python", cwd=project).output
    found = re.findall(r"^(fastapi|quart|uvicorn)==(\S+)$", frozen, re.MULTILINE)
    return dict(sorted(found))


def table(result: dict[str, Any]) -> list[str]:
    """Return the lines of a table: medians of ratios, with their spread."""
    ours = result["contenders"][OURS]["samples"]
    rows = [["", *ENDPOINTS, "its p99 to p50", "idle, MiB"]]
    rows.append(["---"] + ["--:"] * (len(rows[0]) - 1))
    for name, each in result["contenders"].items():
        cells = []
        for endpoint, samples in each["samples"].items():
            pairs = zip(samples, ours[endpoint], strict=True)
            ratios = sorted(sample["per_cpu"] / base["per_cpu"] for sample, base in pairs)
            figure = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            if name == OURS:
                figure = f"1 = {median(base['per_cpu'] for base in samples):,.0f}/s"
            cells.append(figure)
        busy = each["samples"][BUSY]
        failed = sum(sample["failed"] for sample in busy)
        late = median(sample["p99"] / (sample["p50"] or 1) for sample in busy)
        cells.append(f"{late:.1f}{f', {failed:.0f} failed' if failed else ''}")
        rows.append([f"**{name}**" if name == OURS else name, *cells, str(each["idle_mib"])])
    said = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return [
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"{result['date']}, {result['machine']}, {said}; {result['rounds']} rounds.",
    ]


def with_table(page: str, result: dict[str, Any]) -> str:
    """Return a page with the table of a result between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *table(result), "", END + after])


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench EQUAL=1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    if (busy := os.getloadavg()[0]) > QUIET:
        print(f"The machine is busy (load average {busy:.1f}): the ratios will be wrong.")
    began = time.monotonic()
    rounds, seconds = (1, 1.0) if options.quick else (ROUNDS, SECONDS)
    result = measure(options.peers, rounds, seconds)
    print("\n".join(["", *table(result)]))
    if not options.quick:
        RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(with_table(PAGE.read_text(), result))
    print(f"It took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
