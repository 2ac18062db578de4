"""The CI files: checked against their schemas, audited, and their own steps executed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import (
    ROOT,
    Outcome,
    clean_environment,
    commit_all,
    generate,
    git,
    run,
    update,
)
from uv import find_uv_bin

TOOLS = Path(sys.executable).parent

PINNED = re.compile(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", re.MULTILINE)

SAME_JOBS = {
    "lint and types": "check",
    "tests": "test",
    "known vulnerabilities": "audit",
    "container": "container",
}
"""GitLab's jobs, and GitHub's."""

MAY_WRITE = {"publish"}
"""The jobs that write: this repository's site, and its releases."""


def load(file: Path) -> Any:
    """Read a YAML file; `on` stays a word."""
    return yaml.load(file.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - the simplest one


def github_steps(project: Path, job: str) -> list[str]:
    """Return what the steps of a job run, in their order."""
    jobs = load(project / ".github/workflows/ci.yml")["jobs"]
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


def test_renovate_finds_the_version_of_uv_on_gitlab(tmp_path: Path) -> None:
    """In a variable, where it looks only when told to; GitHub's files name versions themselves."""
    github = generate(tmp_path / "github", features=[], ci="github")
    gitlab = generate(tmp_path / "gitlab", features=[], ci="gitlab")
    extends = {
        project.name: json.loads((project / "renovate.json").read_text())["extends"]
        for project in (github, gitlab)
    }

    # The form that the preset reads: docs.renovatebot.com/presets-customManagers
    assert re.search(
        r"# renovate: datasource=pypi depName=uv\s+UV_VERSION: \"[0-9.]+\"\s",
        (gitlab / ".gitlab-ci.yml").read_text(),
    )
    assert set(extends["gitlab"]) - set(extends["github"]) == {
        "customManagers:gitlabPipelineVersions"
    }


def test_the_files_are_valid_and_safe(tmp_path: Path) -> None:
    """For the schemas of those who read them, and for an auditor of workflows."""
    github = generate(tmp_path / "github", features=["container"], ci="github")
    gitlab = generate(tmp_path / "gitlab", features=["container"], ci="gitlab")
    folder = ".github/workflows/*.yml"
    workflows = [*sorted(github.glob(folder)), *sorted(ROOT.glob(folder))]
    check = (TOOLS / "check-jsonschema", "--builtin-schema")

    run(*check, "vendor.github-workflows", *workflows, cwd=tmp_path)
    run(TOOLS / "zizmor", "--offline", "--persona=pedantic", *workflows, cwd=tmp_path)
    run(
        *(*check, "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
        gitlab / ".gitlab-ci.yml",
        cwd=tmp_path,
    )
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    run(*check, "vendor.github-issue-forms", forms / "bug.yml", forms / "idea.yml", cwd=tmp_path)
    run(*check, "vendor.github-issue-config", forms / "config.yml", cwd=tmp_path)
    run(*check, "vendor.renovate", github / "renovate.json", gitlab / "renovate.json", cwd=tmp_path)


def test_actions_are_pinned_and_may_do_little(tmp_path: Path) -> None:
    """By full commit hash, with the version beside it; no job may do more than it needs."""
    project = generate(tmp_path / "orders", features=["container"], ci="github")

    folder = ".github/workflows/*.yml"
    for file in (*project.glob(folder), *ROOT.glob(folder)):
        text = file.read_text()
        assert text.count("uses:") == len(PINNED.findall(text)), file
        workflow = load(file)
        assert workflow["permissions"] in ({}, {"contents": "read"})
        for name, job in workflow["jobs"].items():
            assert int(job["timeout-minutes"]) <= (15 if project in file.parents else 45)
            if name not in MAY_WRITE:
                assert job.get("permissions", workflow["permissions"]) == {"contents": "read"}


def test_both_do_the_same(tmp_path: Path) -> None:
    """What GitHub runs and what GitLab runs, so that executing one proves the other."""
    github = generate(tmp_path / "github", features=["container"], ci="github")
    gitlab = generate(tmp_path / "gitlab", features=["container"], ci="gitlab")

    jobs = load(gitlab / ".gitlab-ci.yml")
    for theirs, ours in SAME_JOBS.items():
        assert jobs[theirs]["script"] == github_steps(github, ours), theirs
    assert set(jobs) - {"workflow", "variables", "default"} == set(SAME_JOBS)
    assert set(load(github / ".github/workflows/ci.yml")["jobs"]) == set(SAME_JOBS.values())
    matrix = load(github / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    pythons, lowest = jobs["tests"]["parallel"]["matrix"]
    assert pythons == {"UV_PYTHON": matrix["python"], "UV_RESOLUTION": matrix["versions"]}
    assert matrix["include"] == [
        {"python": lowest["UV_PYTHON"], "versions": lowest["UV_RESOLUTION"]}
    ]


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_an_image_is_built_where_there_is_one(ci: str, tmp_path: Path) -> None:
    """The job comes and goes with the container files."""
    project = generate(tmp_path, features=[], ci=ci)

    (file,) = [*project.glob(".gitlab-ci.yml"), *project.glob(".github/workflows/*.yml")]
    assert "docker" not in file.read_text()


def hooks(project: Path) -> Path:
    """Return the hooks of a project. Those that would be fetched, prek has, too."""
    remote = r"repo: https://github.com/pre-commit/pre-commit-hooks\n *rev: .*"
    offline, replaced = re.subn(
        remote, "repo: builtin", (project / ".pre-commit-config.yaml").read_text()
    )
    assert replaced == 1
    config = project.parent / "hooks.yaml"
    config.write_text(offline)
    return config


@pytest.fixture
def conflict(workbench: Path) -> Path:
    """Return a project in which an update has left a conflict."""
    project = generate(workbench / "orders", ["redis"], ci="github", commit=True)
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace("A Quart service.", "Our pride."))
    commit_all(project)
    update(project, description="Takes orders.")
    return project


def test_a_conflict_is_not_committed(conflict: Path) -> None:
    """After an update, git knows of no merge, but the hook looks all the same."""
    command = f"prek install --config {hooks(conflict)} && SKIP=uv-lock git commit -qam Update"

    refused = shell(command, conflict, first=TOOLS)

    assert refused.code != 0
    assert "README.md:3: Merge conflict string" in refused.output


@pytest.mark.slow
def test_the_steps_of_a_new_service_succeed(open_path: Path) -> None:
    """And the hooks for commits. Not pip-audit, which asks a service on the internet."""
    project = generate(open_path / "orders", ["redis"], features=["examples"], ci="github")
    shell("uv lock", project)
    commit_all(project)

    done = shell(f"prek run --all-files --config {hooks(project)}", project, first=TOOLS)
    assert done.code == 0, done.output
    assert "Skipped" not in done.output
    assert git("status", "--short", cwd=project) == "", "a new service is as the hooks want it"
    runs = [(job, "highest") for job in ("check", "test", "audit")] + [("test", "lowest-direct")]
    for job, versions in runs:
        git("checkout", "-q", "--", ".", cwd=project)
        for step in github_steps(project, job):
            if not step.startswith("uvx pip-audit"):
                done = shell(step, project, TMPDIR=str(open_path), UV_RESOLUTION=versions)
                assert done.code == 0, f"{step}\n{done.output}"
    exported = (project / "requirements.txt").read_text()
    assert "\nredis==" in exported
    assert "pytest" not in exported
