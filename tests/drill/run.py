"""Generates and installs a service, and runs the drill on its Python."""

import json
from pathlib import Path
from typing import Any

from harness import generate, run, uv

DRILL = Path(__file__).resolve().parent

TIMEOUT = 500.0
"""Seconds that the whole drill may take. A half is usual."""

LISTED = {
    "# Yours, for example: from . import invoices": "from . import streams, work",
    "    # Yours, for example: invoices.blueprint,": "    streams.blueprint,\n    work.blueprint,",
}
"""Lines of `blueprints/__init__.py` that name the blueprints of a user."""


def drill(folder: Path, *only: str) -> dict[str, Any]:
    """Run the drill in a folder of its own, and return what was seen; only: a part of it."""
    project = generate(folder / "orders", features=["examples", "container", "jobs"])
    add_blueprints(project / "src" / "orders" / "blueprints")
    uv("sync", "--quiet", cwd=project)
    results = folder / "results"
    results.mkdir()
    run(
        project / ".venv/bin/python",
        *("-m", "drill.scenario", str(results), *only),
        cwd=project,
        env={"PYTHONPATH": f"{DRILL.parent}:{project}"},
        timeout=TIMEOUT,
    )
    seen: dict[str, Any] = json.loads((results / "drill.json").read_text())
    return seen


def add_blueprints(blueprints: Path) -> None:
    """Add an event stream, a WebSocket and a job to the service, as a user would."""
    for name in ("streams.py", "work.py"):
        (blueprints / name).write_text((DRILL / name).read_text())
    listed = blueprints / "__init__.py"
    text = listed.read_text()
    for line, replaced in LISTED.items():
        assert line in text
        text = text.replace(line, replaced)
    listed.write_text(text)
