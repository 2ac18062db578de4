"""How long generating and updating take, beside the least that Copier needs for it.

Two other templates tell what that is: one that is empty, and one whose files are those of a
generated service as they are, with a single question and no condition.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import GIT, clean_environment, commit_all, generate, template

QUESTIONS = """\
_subdirectory: template
project_name:
  type: str
  default: Orders
"""
ANSWERS_FILE = "{{ _copier_conf.answers_file }}.jinja"
ANSWERS = "{{ _copier_answers | to_nice_yaml }}"


def making(rounds: int) -> dict[str, float]:
    """Return the medians of some rounds, in seconds, by the command line."""
    with tempfile.TemporaryDirectory(prefix="making-") as name:
        folder = Path(name)
        service = generate(folder / "service")
        (service / ".copier-answers.yml").unlink()
        (folder / "nothing").mkdir()
        sources = {
            "empty ": as_template(folder / "nothing", folder / "empty"),
            "plain ": as_template(service, folder / "plain"),
            "": template(),
        }
        times: dict[str, list[float]] = {}
        for number in range(rounds):
            for kind, source in sources.items():
                project = folder / f"{kind}{number}"
                times.setdefault(f"{kind}copy", []).append(
                    timed("copy", "--defaults", "--quiet", source, project, cwd=folder)
                )
                commit_all(project)
                times.setdefault(f"{kind}update", []).append(
                    timed("update", "--defaults", "--quiet", cwd=project)
                )
    return {name: round(median(each), 3) for name, each in times.items()}


def as_template(files: Path, target: Path) -> Path:
    """Make a template of one question from the files of a folder, and return its repository."""
    shutil.copytree(files, target / "template")
    (target / "copier.yml").write_text(QUESTIONS)
    (target / "template" / ANSWERS_FILE).write_text(ANSWERS)
    commit_all(target)
    for command in (("tag", "1.0.0"), ("gc", "-q")):
        subprocess.run([*GIT, *command], cwd=target, check=True)
    return target


def timed(*arguments: str | Path, cwd: Path) -> float:
    """Run Copier, and return how many seconds it took."""
    command = [sys.executable, "-m", "copier", *arguments]
    environment = clean_environment()
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, check=True, env=environment)
    return time.monotonic() - began
