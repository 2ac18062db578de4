"""How long generating and updating take, beside Copier with an empty template."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness import GIT, commit_all, template

EMPTY = """\
_subdirectory: template
project_name:
  type: str
  default: Empty
"""
ANSWERS = "{{ _copier_answers | to_nice_yaml }}"


def making(rounds: int) -> dict[str, float]:
    """Return the medians of some rounds, in seconds, by the command line."""
    with tempfile.TemporaryDirectory(prefix="making-") as name:
        folder = Path(name)
        empty = folder / "empty"
        (empty / "template").mkdir(parents=True)
        (empty / "copier.yml").write_text(EMPTY)
        (empty / "template" / "{{ _copier_conf.answers_file }}.jinja").write_text(ANSWERS)
        commit_all(empty)
        subprocess.run([*GIT, "tag", "1.0.0"], cwd=empty, check=True)
        times: dict[str, list[float]] = {}
        for number in range(rounds):
            for kind, source in (("empty ", empty), ("", template())):
                project = folder / f"{kind}{number}"
                times.setdefault(f"{kind}copy", []).append(
                    timed("copy", "--defaults", "--quiet", source, project, cwd=folder)
                )
                commit_all(project)
                times.setdefault(f"{kind}update", []).append(
                    timed("update", "--defaults", "--quiet", cwd=project)
                )
    return {name: round(median(each), 3) for name, each in times.items()}


def timed(*arguments: str | Path, cwd: Path) -> float:
    """Run Copier, and return how many seconds it took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "copier", *arguments], cwd=cwd, check=True)
    return time.monotonic() - began
