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
from copier import Settings, run_copy
from harness import (
    ROOT,
    Outcome,
    clean_environment,
    commit_all,
    generate,
    git,
    run,
    template,
    update,
)
from uv import find_uv_bin

TOOLS = Path(sys.executable).parent

PINNED = re.compile(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", re.MULTILINE)

SAME_JOBS = {
    "lint and types": ("ci", "check"),
    "tests": ("ci", "test"),
    "lowest versions": ("ci", "lowest"),
    "known vulnerabilities": ("ci", "audit"),
    "container": ("container", "build"),
}
"""GitLab's jobs, and GitHub's: workflow and job."""

MAY_WRITE = {"update", "publish"}
"""The jobs that write: the pull request with an update, and this repository's site."""


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
    run(*check, "vendor.renovate", github / "renovate.json", gitlab / "renovate.json", cwd=tmp_path)


def test_actions_are_pinned_and_may_do_little(tmp_path: Path) -> None:
    """By full commit hash, with the version beside it; no job may do more than it needs."""
    project = generate(tmp_path / "orders", features=["container"], ci="github")

    folder = ".github/workflows/*.yml"
    for file in (*project.glob(folder), *ROOT.glob(folder)):
        text = file.read_text()
        assert text.count("uses:") == len(PINNED.findall(text)), file
        workflow = load(file)
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            assert int(job["timeout-minutes"]) <= (15 if project in file.parents else 45)
            if name not in MAY_WRITE:
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
        "is there a new version of the template",
        "template update",
    }


def run_hooks(project: Path) -> None:
    """Run all hooks for commits. Those that would be fetched are the ones that prek has, too."""
    remote = r"repo: https://github.com/pre-commit/pre-commit-hooks\n *rev: .*"
    offline, replaced = re.subn(
        remote, "repo: builtin", (project / ".pre-commit-config.yaml").read_text()
    )
    assert replaced == 1
    config = project.parent / "hooks.yaml"
    config.write_text(offline)
    done = shell(f"prek run --all-files --config {config}", project, first=TOOLS)
    assert done.code == 0, done.output
    assert "Skipped" not in done.output


def test_a_conflict_that_is_committed_stops_ci(workbench: Path) -> None:
    """Renovate commits it, whatever file it is in; most tools do not look into a README."""
    project = generate(workbench / "orders", ["redis"], ci="github", commit=True)
    step, *_ = github_steps(project, "ci", "check")
    readme = project / "README.md"
    assert shell(step, project).code == 0
    readme.write_text(readme.read_text().replace("A Quart service.", "Our pride."))
    commit_all(project)
    update(project, description="Takes orders.")
    commit_all(project)

    stopped = shell(step, project)

    assert stopped.code == 1
    assert "README.md:3:<<<<<<< before updating\n" in stopped.output
    assert "README.md:7:>>>>>>> after updating\n" in stopped.output


@pytest.mark.slow
def test_the_steps_of_a_new_service_succeed(open_path: Path) -> None:
    """And the hooks for commits. Not the audit itself, which asks a service on the internet."""
    project = generate(open_path / "orders", ["redis"], features=["examples"], ci="github")
    shell("uv lock", project)
    commit_all(project)

    run_hooks(project)
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


@pytest.fixture(params=["github", "gitlab"])
def released(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, str]:
    """Return a pushed service, its template, of which there is a new version, and where it runs."""
    source = tmp_path / "template"
    git("clone", "-q", template(), source, cwd=tmp_path)
    project = tmp_path / "orders"
    answers = {"project_name": "Orders", "backends": ["redis"], "ci": request.param}
    run_copy(str(source), project, answers, defaults=True, quiet=True, settings=Settings())
    shell("uv lock", project)
    commit_all(project)
    origin = tmp_path / "origin.git"
    git("clone", "-q", "--bare", project, origin, cwd=tmp_path)
    git("config", "receive.advertisePushOptions", "true", cwd=origin)
    git("remote", "add", "origin", origin, cwd=project)
    metadata = source / "template/pyproject.toml.jinja"
    metadata.write_text(metadata.read_text().replace("line-length = 100", "line-length = 99"))
    commit_all(source)
    git("tag", "1000.0.0", cwd=source)
    return project, source, request.param


def update_steps(project: Path, ci: str) -> list[str]:
    """Return what the scheduled update runs."""
    if ci == "github":
        return github_steps(project, "template-update", "update")
    script: list[str] = load(project / ".gitlab-ci.yml")["template update"]["script"]
    return script


def notice(project: Path, ci: str) -> Outcome:
    """Run what tells of a new version."""
    if ci == "github":
        (step,) = github_steps(project, "ci", "template")
        return shell(step, project)
    job = load(project / ".gitlab-ci.yml")["is there a new version of the template"]
    assert job["allow_failure"] == "true"
    (step,) = job["script"]
    return shell(step, project)


NEWS = {"github": (0, "::notice::The template has a new version"), "gitlab": (2, "")}
"""How the notice ends, and begins: a job that fails is a warning in GitLab, and red in GitHub."""


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, Any]:
    """Return what the work on a runner finds around it: GitHub's program, GitLab's variables."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    return {
        "first": programs,
        "GH_LOG": str(tmp_path / "gh.log"),
        "CI_DEFAULT_BRANCH": "main",
        "CI_PROJECT_PATH": "team/orders",
        "CI_SERVER_HOST": "gitlab.example.org",
        "UPDATE_TOKEN": "t0ken",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{tmp_path}/origin.git.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://update:t0ken@gitlab.example.org/team/orders.git",
    }


@pytest.mark.slow
def test_a_new_version_of_the_template_becomes_a_pull_request(
    released: tuple[Path, Path, str], tmp_path: Path, runner: dict[str, Any]
) -> None:
    """The notice in CI tells of it, and the weekly work brings it, under the runner's address."""
    project, _, ci = released

    told = notice(project, ci)
    assert (told.code, told.output[: len(NEWS[ci][1])]) == NEWS[ci]
    for step in update_steps(project, ci):
        done = shell(step, project, **runner)
        assert done.code == 0, f"{step}\n{done.output}"

    pushed = git("show", "template-update:pyproject.toml", cwd=tmp_path / "origin.git")
    assert "line-length = 99" in pushed
    if ci == "github":
        assert "pr create --head template-update" in (tmp_path / "gh.log").read_text()
    assert notice(project, ci) == Outcome(0, "")


@pytest.mark.slow
def test_a_branch_that_somebody_has_worked_on_is_not_overwritten(
    released: tuple[Path, Path, str], tmp_path: Path, runner: dict[str, Any]
) -> None:
    """The work of another week is pushed over the last one's, but not over a person's."""
    _, _, ci = released
    origin = tmp_path / "origin.git"

    def work_of_week(number: int) -> tuple[Path, Outcome]:
        checkout = tmp_path / f"week-{number}"
        git("clone", "-q", origin, checkout, cwd=tmp_path)
        *before, push = update_steps(checkout, ci)
        for step in before:
            assert shell(step, checkout, **runner).code == 0
        return checkout, shell(push, checkout, **runner)

    _, outcome = work_of_week(1)
    assert outcome.code == 0, outcome.output
    checkout, outcome = work_of_week(2)
    assert outcome.code == 0, outcome.output
    second = git("rev-parse", "HEAD", cwd=checkout)
    assert git("rev-parse", "template-update", cwd=origin) == second

    git("commit", "-q", "--allow-empty", "-m", "Mend a test", cwd=checkout)
    git("push", "-q", "origin", "HEAD:template-update", cwd=checkout)
    mended = git("rev-parse", "template-update", cwd=origin)
    assert mended != second
    _, outcome = work_of_week(3)

    assert outcome.code == 1
    assert "The branch template-update has work of Test - merge or delete it" in outcome.output
    assert git("rev-parse", "template-update", cwd=origin) == mended


@pytest.mark.slow
def test_a_conflict_stops_the_update_and_is_named(released: tuple[Path, Path, str]) -> None:
    """Even where nothing can be locked any more; nothing is pushed that a person has not seen."""
    project, _, ci = released
    metadata = project / "pyproject.toml"
    metadata.write_text(metadata.read_text().replace("line-length = 100", "line-length = 120"))
    commit_all(project)
    *before, stop = update_steps(project, ci)[: 2 if ci == "github" else 3]

    for step in before:
        assert shell(step, project).code == 0
    stopped = shell(stop, project)

    assert stopped.code == 1
    assert "Run 'uvx copier update' yourself" in stopped.output
    assert stopped.output.endswith("pyproject.toml\n")
    assert stopped.output.startswith("::error::") == (ci == "github")
