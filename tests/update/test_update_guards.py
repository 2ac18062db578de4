"""What can go wrong around an update: what the user sees, and that nothing is lost unseen."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import (
    BACKENDS,
    MODELS,
    ROOT,
    SUBSETS,
    VERSION,
    commit_all,
    copier,
    files_of,
    generate,
    git,
    run,
    template,
    update,
    uv,
)
from test_edits import append, replace

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "docs" / "update.md").read_text()


@pytest.fixture
def project(workbench: Path) -> Path:
    """Return a committed project with Redis."""
    return generate(workbench / "orders", ["redis"], commit=True)


def without_git(project: Path) -> list[str]:
    """Take git's data away."""
    (project / ".git").rename(project.parent / "git")
    return ["--defaults"]


def without_answers(project: Path) -> list[str]:
    """Delete the answers file."""
    (project / ".copier-answers.yml").unlink()
    commit_all(project)
    return ["--defaults"]


def with_work(project: Path) -> list[str]:
    """Leave something uncommitted."""
    (project / "new.txt").touch()
    return ["--defaults"]


def with_wrong_value(_: Path) -> list[str]:
    """Misspell a backend."""
    return ["--defaults", "-d", "backends=[reddis]"]


def with_unknown_release(_: Path) -> list[str]:
    """Ask for a version that does not exist."""
    return ["--defaults", "-r", "7.0.0"]


def without_what_jobs_need(project: Path) -> list[str]:
    """Take Redis away from a service with jobs."""
    update(project, features=["examples", "jobs"])
    commit_all(project)
    return ["--defaults", "-d", "backends=[postgres, mongo]"]


def to_an_older_version(project: Path) -> list[str]:
    """Ask for a version before the present one."""
    source = project.parent / "copier-quart"
    run("git", "clone", "-q", template(), source, cwd=project)
    commit_all(source, "A later version")
    git("tag", "1000.0.0", cwd=source)
    replace(project / ".copier-answers.yml", str(template()), str(source))
    replace(project / ".copier-answers.yml", VERSION, "1000.0.0")
    commit_all(project)
    return ["--defaults", "-r", VERSION]


def without_template(project: Path) -> list[str]:
    """Record a place where the template is not."""
    replace(project / ".copier-answers.yml", str(template()), "/nowhere/copier-quart")
    commit_all(project)
    return ["--defaults"]


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no git": (without_git, "Updating is only supported in git-tracked subprojects."),
    "no answers file": (without_answers, "TypeError: Template not found"),
    "uncommitted work": (
        with_work,
        "Destination repository is dirty; cannot continue. "
        "Please commit or stash your local changes and retry.",
    ),
    "a wrong value": (
        with_wrong_value,
        f"ValueError: Invalid choice for 'backends': 'reddis' is not in {list(BACKENDS)}",
    ),
    "jobs without Redis": (
        without_what_jobs_need,
        "ValueError: Validation error for question 'backends': jobs needs redis.",
    ),
    "no such version": (with_unknown_release, "ValueError: Unknown revision: '7.0.0'"),
    "a downgrade": (
        to_an_older_version,
        f"You are downgrading from 1000.0.0 to {VERSION}. Downgrades are not supported.",
    ),
    "no template": (without_template, "ValueError: Local template must be a directory."),
}
"""What is wrong, and the last line that the user then sees."""


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_refused_update_says_why_and_changes_nothing(wrong: str, project: Path) -> None:
    """Where the words are Copier's own, the guide's table has them, with the cure."""
    break_it, sentence = REFUSED[wrong]
    options = break_it(project)
    before = files_of(project)

    outcome = copier("update", *options, cwd=project, check=False)

    assert outcome.code != 0
    assert outcome.output.strip().splitlines()[-1] == sentence
    assert files_of(project) == before
    symptoms = re.findall(r"^\| `([^`]+)`", GUIDE, re.MULTILINE)
    assert any(symptom in sentence for symptom in symptoms), f"{sentence} is not in the guide"


def test_a_preview_touches_nothing(project: Path) -> None:
    """The guide's commands for a look before an update, while there is uncommitted work."""
    append(project / "README.md", "\nMINE\n")
    (project / "new.txt").touch()
    before = files_of(project)
    preview = project.parent / "preview"

    git("worktree", "add", "-q", "--detach", "../preview", cwd=project)
    copier("update", "--defaults", "-d", "backends=[http]", cwd=preview)

    assert "?? src/orders/backends/http.py" in git("status", "--short", cwd=preview)
    assert "+# UPSTREAM_URL=" in git("diff", "-U0", "HEAD", ".env.example", cwd=preview)
    assert files_of(project) == before
    git("worktree", "remove", "--force", "../preview", cwd=project)
    assert files_of(project) == before
    assert git("branch", "--list", cwd=project) == "* main"


def test_an_unknown_question_is_told(project: Path) -> None:
    """Copier ignores it; a misspelt name must not look like success."""
    ignored = '"backend" was ignored: there is no such question.'

    updated = copier("update", "--defaults", "-d", "backend=[]", cwd=project)
    correct = copier("update", "--defaults", "-d", "backends=[redis]", cwd=project)
    copied = copier(
        "copy", "--defaults", "-d", "backend=[]", template(), "other", cwd=project.parent
    )

    assert ignored in updated.output
    assert ignored in copied.output
    assert "ignored" not in correct.output
    assert git("status", "--porcelain", cwd=project) == ""


def test_a_backend_cannot_be_added_by_hand_in_the_answers_file(project: Path) -> None:
    """Copier believes that it was there and has been deleted; the guide says how to go back."""
    replace(project / ".copier-answers.yml", "- redis\n", "- redis\n- http\n")
    commit_all(project, "Add a backend by hand")

    update(project)
    assert not (project / "src" / "orders" / "backends" / "http.py").exists()

    git("revert", "--no-edit", "HEAD", cwd=project)
    update(project, backends=["redis", "http"])
    fresh = generate(project.parent / "fresh", ["redis", "http"])
    assert files_of(project) == files_of(fresh)


def test_a_file_that_both_added_is_a_conflict(project: Path) -> None:
    """A module of the user's, where the template comes with one of the same name."""
    module = project / "src" / "orders" / "backends" / "http.py"
    module.write_text('"""My own."""\n')
    commit_all(project)

    update(project, backends=["redis", "http"])

    assert set(git("ls-files", "-u", "--format=%(path)", cwd=project).splitlines()) == {
        "src/orders/backends/http.py"
    }
    assert '"""My own."""' in module.read_text()
    assert "aiohttp" in module.read_text()


def test_files_of_the_user_stay_where_a_backend_goes(workbench: Path) -> None:
    """Own migrations, own examples, and files that are no text."""
    project = generate(workbench / "orders", ["postgres"], commit=True)
    mine = {
        "migrations/versions/0002_mine.py": b"MINE = 1\n",
        "src/orders/blueprints/mine.py": b"MINE = 1\n",
        "src/orders/Größe 1.png": bytes(range(256)),
    }
    for name, content in mine.items():
        (project / name).write_bytes(content)
    append(project / "README.md", "\nMINE\n")
    commit_all(project)

    update(project, backends=[], features=[])

    assert {name: (project / name).read_bytes() for name in mine} == mine
    assert (project / "README.md").read_text().endswith("\nMINE\n")


def test_a_module_that_moved_stays_moved(project: Path) -> None:
    """A module that has become a package is not doubled by the next update."""
    module = project / "src" / "orders" / "core" / "health.py"
    package = module.with_suffix("") / "__init__.py"
    package.parent.mkdir()
    git("mv", module, package, cwd=project)
    append(package, "\nMINE = 1\n")
    commit_all(project)

    update(project, backends=["redis", "http"])

    assert not module.exists()
    assert "MINE" in package.read_text()


def test_a_service_in_a_bigger_repository(workbench: Path) -> None:
    """A neighbour's uncommitted work neither stops an update nor is touched by it."""
    repository = workbench / "company"
    project = generate(repository / "services" / "orders", ["redis"])
    append(project / "README.md", "\nMINE\n")
    commit_all(repository)
    before = files_of(project)
    (repository / "neighbour.txt").write_text("not committed")

    update(project, backends=["http"])
    assert (project / "README.md").read_text().endswith("\nMINE\n")
    assert (project / "src" / "orders" / "backends" / "http.py").exists()
    assert not (project / "src" / "orders" / "backends" / "redis.py").exists()

    run("bash", "-c", "git restore -SW . && git clean -qfd .", cwd=project)
    assert files_of(project) == before
    assert (repository / "neighbour.txt").read_text() == "not committed"


def test_a_service_gets_another_name(workbench: Path) -> None:
    """Unedited, it is as if generated so; edited, it is renamed by hand first."""
    project = generate(workbench / "orders", ["redis"], commit=True)
    update(project, project_name="Bills")
    fresh = files_of(generate(workbench / "fresh", ["redis"], project_name="Bills"))
    assert files_of(project) == fresh
    git("reset", "-q", "--hard", cwd=project)
    git("clean", "-qfd", cwd=project)

    app = project / "src" / "orders" / "app.py"
    append(app, "\nMINE = 1\n")
    git("mv", "src/orders", "src/bills", cwd=project)
    run("bash", "-c", RENAME, cwd=project)
    commit_all(project)
    update(project, project_name="Bills")

    conflicts = set(git("ls-files", "-u", "--format=%(path)", cwd=project).splitlines())
    files = files_of(project)
    with_its_title = {
        "src/bills/__init__.py",
        "src/bills/blueprints/examples.py",
    }
    assert conflicts == {"src/bills/app.py"} | with_its_title
    assert b"MINE = 1" in files["src/bills/app.py"]
    assert set(files) == set(fresh)
    assert {name for name in fresh if files[name] != fresh[name]} == conflicts


RENAME = (
    "git grep -lw orders -- src tests dev pyproject.toml | xargs sed -i 's/\\borders\\b/bills/g'"
)


@pytest.mark.parametrize("backends", [SUBSETS[0], list(BACKENDS)], ids=["none", "all"])
def test_what_is_generated_is_committed(backends: list[str], workbench: Path) -> None:
    """A file that git ignores, or takes for binary, would be overwritten without a merge."""
    project = generate(workbench / "orders", backends, commit=True)
    empty = git("hash-object", "-t", "tree", "/dev/null", cwd=project)

    assert set(git("ls-files", cwd=project).splitlines()) == set(files_of(project))
    counts = git("diff-tree", "-r", "--numstat", empty, "HEAD", cwd=project)
    assert [line for line in counts.splitlines() if line.startswith("-")] == []


@pytest.mark.parametrize("command", [["pytest"], ["-m", "dev"]], ids=" ".join)
def test_a_service_with_conflicts_does_not_run(command: list[str], workbench: Path) -> None:
    """One line names the files, also once the markers are committed."""
    project = generate(workbench / "orders", [], features=[], commit=True)
    replace(project / "README.md", "A Quart service.", "Our pride.")
    commit_all(project)
    update(project, description="Takes orders.")
    assert git("ls-files", "-u", cwd=project) != ""
    uv("sync", "--quiet", cwd=project)

    for _ in ("before", "after"):
        done = uv("run", *command, cwd=project, check=False)
        assert done.code != 0
        assert done.output.splitlines()[-1].endswith(
            "Resolve the conflicts of the template update in: README.md"
        )
        assert "Traceback" not in done.output
        commit_all(project)

    run(
        "sed",
        "-i",
        "-e",
        "/^<<<<<<< /d",
        "-e",
        "/^=======$/,/^>>>>>>> /d",
        "README.md",
        cwd=project,
    )
    commit_all(project)
    uv("run", "pytest", "-q", cwd=project)


def test_the_last_database_does_not_leave_models_behind(workbench: Path) -> None:
    """One line says so, before anything is changed; the update that drops both works."""
    features = ["container", MODELS]
    project = generate(workbench / "orders", ["mongo", "redis"], features=features, commit=True)

    with pytest.raises(ValueError, match="models needs postgres or mongo") as refused:
        update(project, backends=["redis"])

    assert "\n" not in str(refused.value)
    assert git("status", "--short", cwd=project) == ""
    update(project, backends=["redis"], features=["container"])
    fresh = generate(workbench / "fresh", ["redis"], features=["container"])
    answers = ".copier-answers.yml"
    assert {**files_of(project), answers: b""} == {**files_of(fresh), answers: b""}
