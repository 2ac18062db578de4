"""The CI files: checked against their schemas, audited, and their own steps executed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier import Settings, run_copy
from harness import (
    Outcome,
    clean_environment,
    commit_all,
    generate,
    git,
    run,
    template,
)
from uv import find_uv_bin

TOOLS = Path(sys.executable).parent

PINNED = re.compile(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", re.MULTILINE)

SAME_JOBS = {
    "lint and types": ("ci", "check"),
    "tests": ("ci", "test"),
    "lowest versions": ("ci", "lowest"),
    "known vulnerabilities": ("ci", "audit"),
    "is there a new version of the template": ("ci", "template"),
    "container": ("container", "build"),
}
"""GitLab's jobs, and GitHub's: workflow and job."""


def load(file: Path) -> Any:
    """Read a YAML file; `on` stays a word."""
    return yaml.load(file.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - the simplest one


def github_steps(project: Path, workflow: str, job: str) -> list[str]:
    """Return what the steps of a job run, in their order."""
    jobs = load(project / f".github/workflows/{workflow}.yml")["jobs"]
    return [step["run"] for step in jobs[job]["steps"] if "run" in step]


def shell(script: str, project: Path, *, first: Path | None = None, **variables: str) -> Outcome:
    """Run a step as a runner does; first: a folder of programs that go before all others."""
    folders = [first, Path(find_uv_bin()).parent, *map(Path, os.get_exec_path())]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=project,
        env=clean_environment()
        | {"PATH": os.pathsep.join(str(folder) for folder in folders if folder)}
        | {"UV_PYTHON": sys.executable}
        | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return Outcome(done.returncode, done.stdout)


def test_the_files_are_valid_and_safe(tmp_path: Path) -> None:
    """For the schemas of those who read them, and for an auditor of workflows."""
    github = generate(tmp_path / "github", features=["container"], ci="github")
    gitlab = generate(tmp_path / "gitlab", features=["container"], ci="gitlab")
    workflows = sorted(github.glob(".github/workflows/*.yml"))
    check = (TOOLS / "check-jsonschema", "--builtin-schema")

    run(*check, "vendor.github-workflows", *workflows, cwd=tmp_path)
    run(TOOLS / "zizmor", "--offline", "--persona=pedantic", *workflows, cwd=tmp_path)
    run(
        *(*check, "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
        gitlab / ".gitlab-ci.yml",
        cwd=tmp_path,
    )
    run(*check, "vendor.renovate", github / "renovate.json", cwd=tmp_path)


def test_actions_are_pinned_and_may_do_little(tmp_path: Path) -> None:
    """By full commit hash, with the version beside it; no job may do more than it needs."""
    project = generate(tmp_path / "orders", features=["container"], ci="github")

    for file in project.glob(".github/workflows/*.yml"):
        text = file.read_text()
        assert text.count("uses:") == len(PINNED.findall(text)), file
        workflow = load(file)
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            assert int(job["timeout-minutes"]) <= 15
            if name != "update":
                assert job["permissions"] == {"contents": "read"}


def test_both_do_the_same(tmp_path: Path) -> None:
    """What GitHub runs and what GitLab runs, so that executing one proves the other."""
    github = generate(tmp_path / "github", features=["container"], ci="github")
    gitlab = generate(tmp_path / "gitlab", features=["container"], ci="gitlab")

    jobs = load(gitlab / ".gitlab-ci.yml")
    for theirs, (workflow, ours) in SAME_JOBS.items():
        assert jobs[theirs]["script"] == github_steps(github, workflow, ours), theirs
    assert set(jobs) - {"stages", "workflow", "variables", "default", ".work"} == {
        *SAME_JOBS,
        "template update",
    }


@pytest.mark.slow
def test_the_steps_of_a_new_service_succeed(open_path: Path) -> None:
    """And the hooks for commits. Not the audit itself, which asks a service on the internet."""
    project = generate(open_path / "orders", ["redis"], features=["examples"], ci="github")
    shell("uv lock", project)
    commit_all(project)

    hooks = load(project / ".pre-commit-config.yaml")["repos"][-1]["hooks"]
    for hook in hooks:
        done = shell(hook["entry"], project)
        assert done.code == 0, f"{hook['id']}\n{done.output}"
    assert git("status", "--short", cwd=project) == "", "a new service is as the hooks want it"
    for job in ("check", "template", "test", "lowest", "audit"):
        git("checkout", "-q", "--", ".", cwd=project)
        for step in github_steps(project, "ci", job):
            if not step.startswith("uvx pip-audit"):
                done = shell(step, project, TMPDIR=str(open_path))
                assert done.code == 0, f"{step}\n{done.output}"

    exported = (project / "requirements.txt").read_text()
    assert "\nredis==" in exported
    assert "pytest" not in exported


GH = """#!/bin/sh
echo "$@" >> "$GH_LOG"
test "$1 $2" != "pr view"
"""


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, Path]:
    """Return a pushed service, and its template, of which there is a new version."""
    source = tmp_path / "template"
    git("clone", "-q", template(), source, cwd=tmp_path)
    project = tmp_path / "orders"
    answers = {"project_name": "Orders", "backends": ["redis"], "ci": "github"}
    run_copy(str(source), project, answers, defaults=True, quiet=True, settings=Settings())
    shell("uv lock", project)
    commit_all(project)
    git("clone", "-q", "--bare", project, tmp_path / "origin.git", cwd=tmp_path)
    git("remote", "add", "origin", tmp_path / "origin.git", cwd=project)
    readme = source / "template/README.md.jinja"
    readme.write_text(readme.read_text().replace("## Checks", "## All checks"))
    commit_all(source)
    git("tag", "1000.0.0", cwd=source)
    return project, source


@pytest.mark.slow
def test_a_new_version_of_the_template_becomes_a_pull_request(
    released: tuple[Path, Path], tmp_path: Path
) -> None:
    """The notice in CI tells of it, and the weekly workflow brings it."""
    project, _ = released
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    log = tmp_path / "gh.log"
    (notice,) = github_steps(project, "ci", "template")

    assert shell(notice, project).code == 2
    for step in github_steps(project, "template-update", "update"):
        done = shell(step, project, first=programs, GH_LOG=str(log), GITHUB_ACTIONS="true")
        assert done.code == 0, f"{step}\n{done.output}"

    pushed = git("show", "template-update:README.md", cwd=tmp_path / "origin.git")
    assert "## All checks" in pushed
    assert "pr create --head template-update" in log.read_text()
    assert shell(notice, project).code == 0


@pytest.mark.slow
def test_a_conflict_stops_the_update_and_is_named(released: tuple[Path, Path]) -> None:
    """Nothing is pushed that a person has not seen."""
    project, _ = released
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace("## Checks", "## Our checks"))
    commit_all(project)
    update, stop, _ = github_steps(project, "template-update", "update")

    assert shell(update, project).code == 0
    stopped = shell(stop, project)

    assert stopped.code == 1
    assert stopped.output.startswith("::error::")
    assert stopped.output.endswith("README.md\n")
