"""Copies and updates that are interrupted at any moment, and the one command that repairs each."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import (
    ROOT,
    answers_of,
    clean_environment,
    commit_all,
    copier,
    files_of,
    generate,
    git,
    run,
    template,
    update,
)
from test_edits import assert_kept, edit, replace

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "docs" / "update.md").read_text()

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

UNDO = "git restore -SW . && git clean -fd ."
"""Undoes an update, in the folder of the service."""

COPY = ("copy", "--defaults", "-d", "project_name=Orders")


def interrupt(
    *arguments: str | Path, cwd: Path, when: Callable[[], bool], how: signal.Signals
) -> bool:
    """Run Copier and send it a signal once something is the case; return whether that cut it short.

    As from a terminal, Ctrl-C reaches git, too; the other signals reach Copier only.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "copier", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment() | {"TMPDIR": tempfile.gettempdir()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not when():
        time.sleep(0.002)
    try:
        if how is signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        process.wait(30)
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    except ProcessLookupError:
        return process.wait() != 0


def after(seconds: float, event: Callable[[], bool]) -> Callable[[], bool]:
    """Return a condition that holds some time after an event."""
    since: list[float] = []

    def holds() -> bool:
        if not since and event():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return holds


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_an_interrupted_copy_is_repeated(
    share: float, how: signal.Signals, workbench: Path
) -> None:
    """The same command with `--overwrite`, without an answers file that may be cut short."""
    project = workbench / "orders"
    expected = files_of(generate(workbench / "fresh"))
    enough = 1 + share * len(expected)

    stopped = interrupt(
        *(*COPY, template(), "orders"),
        cwd=workbench,
        when=lambda: sum(path.is_file() for path in project.rglob("*")) >= enough,
        how=how,
    )
    assert stopped
    there = [path for path in project.rglob("*") if path.is_file()]
    assert 0 < len(there) < len(expected)
    # It may have been in the middle of any file, that of the answers included.
    for path in there:
        os.truncate(path, 1)

    (project / ".copier-answers.yml").unlink(missing_ok=True)
    copier(*COPY, "--overwrite", template(), "orders", cwd=workbench)
    assert files_of(project) == expected
    cure = "`rm -f orders/.copier-answers.yml`, then the same command again, with `--overwrite`"
    assert cure in GUIDE


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_an_interrupted_update_is_undone(how: signal.Signals, workbench: Path) -> None:
    """One command leads back, from wherever it was; then the update can be repeated."""
    project = generate(workbench / "orders", ["redis"], commit=True)
    edit(project, ["a blueprint", "a section", "a deletion"])
    before = files_of(project)
    begun = project / "dev" / "postgres.py"
    cut_short = 0
    changed: set[bool] = set()
    for moment in (None, 0.0, 0.05, 0.2):
        cut_short += interrupt(
            *("update", "--defaults", "-d", "backends=[postgres]"),
            cwd=project,
            when=after(0.3, lambda: True) if moment is None else after(moment, begun.exists),
            how=how,
        )
        changed.add(files_of(project) != before)
        run("bash", "-c", UNDO, cwd=project)
        assert files_of(project) == before
        assert git("status", "--porcelain", "--ignored", cwd=project) == ""

    assert cut_short >= 2
    assert changed == {True, False}
    update(project, backends=["postgres"])
    assert_kept(project, ["a blueprint", "a section", "a deletion"])
    assert answers_of(project)["backends"] == ["postgres"]


def test_an_update_with_conflicts_is_undone(workbench: Path) -> None:
    """The same command; and it is the one that the guide and the update itself name."""
    project = generate(workbench / "orders", ["redis"], commit=True)
    replace(project / "README.md", "A Quart service.", "Our pride.")
    commit_all(project)
    before = files_of(project)

    said = copier("update", "--defaults", "-d", "description=Mine.", cwd=project)
    assert git("ls-files", "-u", cwd=project) != ""
    run("bash", "-c", UNDO, cwd=project)

    assert files_of(project) == before
    assert git("status", "--porcelain", "--ignored", cwd=project) == ""
    assert f"  {UNDO}\n" in said.output
    assert f"`{UNDO}`" in GUIDE
