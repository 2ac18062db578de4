"""A row and a document by the same service, with models and without: `make bench MODELS=1`.

Prints requests per second of the server's CPU, and the p99 at 500 connections.
"""

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from harness import MODELS, generate, uv
from running import free_port

from benchmarks.__main__ import SERVICE, servers
from benchmarks.load import Sample, load, wait

ENDPOINTS = ["postgres", "postgres-models", "mongo", "mongo-models", "umongo"]

PATIENT = {f"{prefix}_ACQUIRE_TIMEOUT": "30" for prefix in ("POSTGRES", "MONGODB", "BLOCKING")}
"""At 500 connections, a slow machine would answer some requests by 503."""

ROUNDS = 3
SECONDS = 2


def main() -> None:
    """Measure all endpoints in turn, several times."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        project = generate(folder / "orders", features=[MODELS])
        uv("sync", "--quiet", cwd=project)
        binaries = project / ".venv" / "bin"
        uv("pip", "install", "--quiet", "--python", binaries / "python", "umongo", cwd=project)
        environment = stack.enter_context(servers(project)) | PATIENT
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        program, *options = (
            SERVICE.format(port=port).replace("contenders.service", "contenders.modeled").split()
        )
        command = ["taskset", "-c", "0", str(binaries / program), *options]
        process = stack.enter_context(subprocess.Popen(command, cwd=project, env=environment))
        stack.callback(process.terminate)
        for endpoint in ENDPOINTS:
            wait(f"{url}/{endpoint}")
        for _ in range(ROUNDS):
            for endpoint in ENDPOINTS:
                for connections in (50, 500):
                    wait(f"{url}/health/live", 60)
                    sample = load(f"{url}/{endpoint}", connections, SECONDS, process.pid)
                    samples.setdefault((endpoint, connections), []).append(sample)
    for (endpoint, connections), runs in samples.items():
        per_cpu = median(run.per_cpu for run in runs)
        p50, p99 = (median(getattr(run, name) for run in runs) * 1000 for name in ("p50", "p99"))
        failed = sum(run.failed for run in runs)
        print(
            f"{endpoint:16} {connections:4} {per_cpu:8.0f}/cpu-s"
            f" p50 {p50:7.1f} ms p99 {p99:7.1f} ms {failed} failed"
        )


if __name__ == "__main__":
    main()
