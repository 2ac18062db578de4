"""Generates and installs a service, and runs the drill on its Python."""

import json
from pathlib import Path
from typing import Any

from harness import generate, run, uv

TESTS = Path(__file__).resolve().parent.parent

TIMEOUT = 300.0
"""Seconds that the whole drill may take; a third is usual."""


def drill(folder: Path) -> dict[str, Any]:
    """Run the drill in a folder of its own, and return what was seen."""
    project = generate(folder / "orders")
    uv("sync", "--quiet", cwd=project)
    results = folder / "results"
    results.mkdir()
    run(
        *(project / ".venv/bin/python", "-m", "drill.scenario", results),
        cwd=project,
        env={"PYTHONPATH": f"{TESTS}:{project}"},
        timeout=TIMEOUT,
    )
    seen: dict[str, Any] = json.loads((results / "drill.json").read_text())
    return seen
