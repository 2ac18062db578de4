"""Compare the service that this working tree generates with that of a commit, side by side.

    make bench AGAINST=HEAD

Both run at the same time on the same servers, with the logs and the settings of a new service, and
take turns. The ratios are those of requests per CPU second of the server.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from copier import Settings, run_copy
from harness import ROOT, generate, git, template, uv

from benchmarks.__main__ import SERVICE, servers
from benchmarks.contender import Contender
from benchmarks.load import Sample, load

ROUNDS, SECONDS = 7, 2.0

ENDPOINTS = {
    "a row": ("/notes/1", 50, ""),
    "a create": ("/notes", 50, '{"title": "A title", "body": "A body of some words"}'),
    "a list of 20": ("/notes?limit=20", 50, ""),
    "a Redis get": ("/counters/bench", 50, ""),
    "a constant": ("/json", 50, ""),
    "a row, 500 connections": ("/notes/1", 500, ""),
}
"""A path, a number of connections, and JSON to post."""

Samples = dict[str, list[tuple[Sample, Sample]]]
"""What the service of the commit did, and that of the working tree, round by round."""


def compare(commit: str) -> Samples:
    """Measure both services."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        new = generate(folder / "new")
        old = generate_from(commit, folder)
        for project in (new, old):
            uv("sync", "--quiet", cwd=project)
        shutil.rmtree(template())
        environment = stack.enter_context(servers(new)) | {"LOG_LEVEL": "INFO"}
        upgrade = [str(new / ".venv/bin/alembic"), "upgrade", "head"]
        subprocess.run(upgrade, check=True, cwd=new, env=environment)
        both = [
            stack.enter_context(of_service(project).served(environment)) for project in (old, new)
        ]
        fill(both[1][0])
        samples: Samples = {name: [] for name in ENDPOINTS}
        for number in range(ROUNDS):
            for name, (path, connections, body) in ENDPOINTS.items():
                found = {}
                for index in (0, 1) if number % 2 else (1, 0):
                    url, pid = both[index]
                    found[index] = load(url + path, connections, SECONDS, pid, body)
                samples[name].append((found[0], found[1]))
                print(line(name, samples[name][-1:]), flush=True)
        return samples


def generate_from(commit: str, folder: Path) -> Path:
    """Generate a service from a commit of the template."""
    source, project = folder / "source", folder / "old"
    archive = folder / "source.tar"
    git("archive", "--output", archive, commit, cwd=ROOT)
    shutil.unpack_archive(archive, source)
    data = {"project_name": "Orders"}
    run_copy(str(source), project, data=data, defaults=True, quiet=True, settings=Settings())
    return project


def of_service(project: Path) -> Contender:
    """Return a generated service, by the command in its README."""
    return Contender(f"{project}/.venv/bin/{SERVICE}", project)


def fill(url: str) -> None:
    """Create the rows that are read, and open the connections."""
    path, _, body = ENDPOINTS["a create"]
    load(url + path, 50, 1, os.getpid(), body)


def line(name: str, rounds: list[tuple[Sample, Sample]]) -> str:
    """Return the medians of some rounds: the ratio, with its spread, and the 99th percentiles."""
    ratios = sorted(new.per_cpu / old.per_cpu for old, new in rounds)
    old, new = (median(pair[index].per_cpu for pair in rounds) for index in (0, 1))
    late = [median(pair[index].p99 for pair in rounds) * 1000 for index in (0, 1)]
    failed = [sum(pair[index].failed for pair in rounds) for index in (0, 1)]
    return (
        f"{name:23} {median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        f"  {old:6.0f} -> {new:6.0f}/cpu-s  p99 {late[0]:6.1f} -> {late[1]:6.1f} ms"
        f"{f'  failed {failed[0]} -> {failed[1]}' if any(failed) else ''}"
    )


def main() -> int:
    """Compare, and print a line for each endpoint."""
    began = time.monotonic()
    samples = compare(sys.argv[1])
    print(f"\nThe medians of {ROUNDS} rounds, {sys.argv[1]} -> the working tree:")
    for name, rounds in samples.items():
        print(line(name, rounds))
    print(f"It took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
