"""A release: all files name one version, and the workflow tags it once, with its notes."""

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import release
import yaml
from harness import ROOT, commit_all, git, run

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def test_all_files_name_the_same_version() -> None:
    """CHANGELOG, README, the comparison, the table of releases, and pyproject.toml."""
    version = release.version_of(ROOT)
    table = tomllib.loads((ROOT / "tests" / "update" / "releases.toml").read_text())["release"]
    ours = re.search(
        r"^\| version \| ([^ |,]+)", (ROOT / "docs/compare.md").read_text(), re.MULTILINE
    )

    assert release.notes(ROOT)
    assert f"This is version {version}" in " ".join((ROOT / "README.md").read_text().split())
    assert ours
    assert ours[1] == version
    assert [row["version"] for row in table][-1:] in ([], [version], [before(version)])


def before(version: str) -> str:
    """Return the released version before one."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = [found["version"] for found in release.HEADING.finditer(changelog)]
    return versions[versions.index(version) + 1]


CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.1.0] - 2027-01-02

### Added

- A thing, see [1.0.0].

## [1.0.0] - 2026-11-27

The first.
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with two described versions, and the tool."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.1.0"\n')
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release.py", tmp_path / "tools")
    return tmp_path


def test_the_notes_are_those_of_the_version(repository: Path) -> None:
    """Without its heading, and without older versions."""
    assert release.notes(repository) == "### Added\n\n- A thing, see [1.0.0].\n"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[1.1.0] - 2027-01-02", "[1.2.0] - 2027-01-02", "has 1.2.0 as its newest version, not 1"),
        ("[1.1.0] - 2027-01-02", "[1.1.0]", "has no date for 1.1.0"),
        ("### Added\n\n- A thing, see [1.0.0].\n", "", "says nothing about 1.1.0"),
    ],
)
def test_files_that_disagree_stop_a_release(
    old: str, new: str, sentence: str, repository: Path
) -> None:
    """With one line, before anything is tagged."""
    (repository / "CHANGELOG.md").write_text(CHANGELOG.replace(old, new))

    stopped = run("python3", "tools/release.py", "version", cwd=repository, check=False)

    assert stopped.code == 1
    assert re.fullmatch(rf"release.py: CHANGELOG.md {sentence}.*\n", stopped.output)


def steps(job: str) -> list[str]:
    """Return what the steps of a job run."""
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return [step["run"] for step in jobs[job]["steps"] if "run" in step]


def test_the_workflow_publishes_a_version_once(repository: Path) -> None:
    """Its own commands, with a `gh` that makes the tag here: the second push finds nothing new."""
    commit_all(repository)
    programs = repository.parent / f"{repository.name}-programs"
    programs.mkdir()
    gh = 'echo "$@" > "$CALLED" && cat "$9" >> "$CALLED" && git tag "$3" "$5"\n'
    (programs / "gh").write_text(f"#!/bin/sh\n{gh}")
    (programs / "gh").chmod(0o755)
    output, called = programs / "output", programs / "called"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(output),
        "GITHUB_SHA": git("rev-parse", "HEAD", cwd=repository),
        "RUNNER_TEMP": str(programs),
        "CALLED": str(called),
        "VERSION": "v1.1.0",
    }

    for found in ("new=v1.1.0\n", "new=\n"):
        output.unlink(missing_ok=True)
        for step in steps("version"):
            run("bash", "-eo", "pipefail", "-c", step, cwd=repository, env=environment)
        assert output.read_text() == found
        if found == "new=v1.1.0\n":
            for step in steps("publish"):
                run("bash", "-eo", "pipefail", "-c", step, cwd=repository, env=environment)

    assert git("rev-parse", "v1.1.0", cwd=repository) == environment["GITHUB_SHA"]
    assert called.read_text().startswith("release create v1.1.0 --target ")
    assert called.read_text().endswith(release.notes(repository))
    assert steps("test") == [".ci/run"]
