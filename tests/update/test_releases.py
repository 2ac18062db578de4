"""Projects made with any release come to the present by one update."""

import re
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from subprocess import run as run_raw
from typing import Any

import pytest
import yaml
from copier import Settings, run_copy
from harness import (
    BACKENDS,
    ROOT,
    VERSION,
    answers_of,
    commit_all,
    files_of,
    generate,
    git,
    name_of,
    run,
    template,
    update,
)
from test_edits import EDITS, assert_kept, edit
from test_updates import assert_same


@dataclass(frozen=True)
class Release:
    """A version of the template, its commit, and the files that the next version removed."""

    version: str
    commit: str
    gone_since: tuple[str, ...]


TABLE = tomllib.loads(Path(__file__).with_name("releases.toml").read_text())["release"]
RELEASES = [Release(row["version"], row["commit"], tuple(row["gone_since"])) for row in TABLE]

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.version)


def archive(release: Release, repository: Path = ROOT) -> tarfile.TarFile:
    """Return the files of a release from the history of a clone.

    Raises LookupError, with what to do, where the history does not go back that far.
    """
    packed = run_raw(
        ["git", "archive", "--format=tar", release.commit],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if packed.returncode != 0:
        raise LookupError(
            f"the history of this clone does not reach back to release {release.version} "
            f"({release.commit}); fetch the rest of it with `git fetch --unshallow`"
        )
    return tarfile.open(fileobj=BytesIO(packed.stdout))


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of the template with a tag for every release and for the present."""
    folder = tmp_path_factory.mktemp("history") / "copier-quart"
    folder.mkdir()
    for release in RELEASES:
        replace_all(folder, f"Release {release.version}")
        try:
            files = archive(release)
        except LookupError as error:
            if git("rev-parse", "--is-shallow-repository", cwd=ROOT) == "true":
                pytest.skip(str(error))
            raise
        with files:
            files.extractall(folder)  # noqa: S202 - git's archive of our own files
        commit_all(folder, f"Release {release.version}")
        git("tag", f"v{release.version}", cwd=folder)
    replace_all(folder, "The working tree")
    git("--work-tree", folder, "checkout", "-q", "-f", fetch_present(folder), "--", ".", cwd=folder)
    commit_all(folder, "The working tree")
    git("tag", VERSION, cwd=folder)
    return folder


def replace_all(folder: Path, message: str) -> None:
    """Remove every file of a repository, which begins where there is none."""
    commit_all(folder, f"Before: {message}")
    git("rm", "-r", "-q", "--ignore-unmatch", ".", cwd=folder)


def fetch_present(folder: Path) -> str:
    """Bring the template as it stands here into a repository and return its commit."""
    git("fetch", "-q", "--no-tags", template(), "HEAD", cwd=folder)
    return git("rev-parse", "FETCH_HEAD", cwd=folder)


def made_with(release: Release, history: Path, target: Path, backends: list[str]) -> Path:
    """Generate a project as it was at a release, with no question or choice of today."""
    known = choices(dict(questions(settings_at(release)))["backends"])
    run_copy(
        str(history),
        target,
        data={
            "project_name": "Orders",
            "backends": [name for name in backends if name in known],
            "license": "BSD-3-Clause",
        },
        defaults=True,
        quiet=True,
        vcs_ref=f"v{release.version}",
        settings=Settings(),
    )
    commit_all(target, "Generate")
    return target


def fresh(project: Path, answers: Mapping[str, Any], target: Path) -> dict[str, bytes]:
    """Return the files of today with these answers, as a project of that source has them."""
    files = files_of(generate(target, **answers))
    mine = (project / ".copier-answers.yml").read_text()
    source = re.search("^_src_path: .*$", mine, re.MULTILINE)
    assert source is not None
    text = files[".copier-answers.yml"].decode()
    text = re.sub("^_src_path: .*$", source[0], text, flags=re.MULTILINE)
    return files | {".copier-answers.yml": text.encode()}


def given(project: Path) -> dict[str, Any]:
    """Return the recorded answers to questions."""
    return {
        name: value
        for name, value in answers_of(project).items()
        if not name.startswith("_") and name != "answers_format"
    }


@pytest.mark.slow
@each_release
@pytest.mark.parametrize("backends", [list(BACKENDS), [], ["redis"]], ids=name_of)
def test_a_project_of_a_release_becomes_one_of_today(
    release: Release, backends: list[str], history: Path, workbench: Path
) -> None:
    """Recorded answers stay. A new question takes its default."""
    project = made_with(release, history, workbench / "orders", backends)
    then = given(project)

    update(project)

    assert given(project) | then == given(project)
    assert answers_of(project)["_commit"] == VERSION
    assert_same(project, fresh(project, then, workbench / "fresh"))


@pytest.mark.slow
@each_release
@pytest.mark.parametrize("backends", [list(BACKENDS), ["redis"]], ids=name_of)
def test_edits_in_a_project_of_a_release_survive(
    release: Release, backends: list[str], history: Path, workbench: Path
) -> None:
    """All edits at once, with new answers in the same update."""
    project = made_with(release, history, workbench / "orders", backends)
    edits = list(EDITS)
    edit(project, edits)

    update(project, backends=["postgres", "redis"])

    assert len(edits) > 10
    assert_kept(project, edits)
    assert (project / "migrations").is_dir()
    assert not (project / "src" / "orders" / "backends" / "mongo.py").exists()


def settings_at(release: Release | None) -> dict[str, Any]:
    """Return copier.yml of a release, or of the present."""
    if release is None:
        return dict(yaml.safe_load((ROOT / "copier.yml").read_text()))
    with archive(release) as files:
        content = files.extractfile("copier.yml")
        assert content is not None
        return dict(yaml.safe_load(content.read()))


def questions(settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each question that is asked, with its details."""
    for name, details in settings.items():
        if not name.startswith("_") and details.get("when") is not False:
            yield name, details


def choices(question: dict[str, Any]) -> set[str]:
    """Return the values of the choices of a question."""
    offered = question.get("choices", [])
    return set(offered.values() if isinstance(offered, dict) else offered)


@each_release
def test_recorded_answers_stay_valid(release: Release) -> None:
    """Every question and every choice of a release still exists and means the same."""
    today = dict(questions(settings_at(None)))

    for name, question in questions(settings_at(release)):
        assert name in today
        assert choices(question) <= choices(today[name]), name
        assert question["type"] == today[name]["type"]
        assert question.get("multiselect") == today[name].get("multiselect")


@cache
def files_at(release: Release | None) -> frozenset[str]:
    """Return the paths of all files that a release, or the present, can put into a service."""
    if release is None:
        names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "template").rglob("*")]
    else:
        with archive(release) as files:
            names = [member.name for member in files if member.isfile()]
    inside = (name for name in names if name.startswith("template/"))
    return frozenset(name.removeprefix("template/").removesuffix(".jinja") for name in inside)


@pytest.mark.parametrize("number", range(len(RELEASES)), ids=lambda n: RELEASES[n].version)
def test_no_file_is_renamed(number: int) -> None:
    """A file under a new name would lose what users have changed in it."""
    release = RELEASES[number]
    following = RELEASES[number + 1] if number + 1 < len(RELEASES) else None

    assert sorted(files_at(release) - files_at(following)) == list(release.gone_since)


def test_the_table_has_every_release() -> None:
    """One that is just being made may be missing: a commit cannot name itself."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    described = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    released = [version for version in described[::-1] if not version.startswith("0.")]
    known = [release.version for release in RELEASES]

    assert project["version"] == described[0]
    assert released in (known, [*known, described[0]])


def test_a_shallow_clone_is_told_what_to_do(tmp_path: Path) -> None:
    """CI often fetches only the newest commit."""
    run("git", "clone", "-q", "--depth", "1", f"file://{template()}", "shallow", cwd=tmp_path)

    with pytest.raises(LookupError, match=r"release 1\.0\.0 .*`git fetch --unshallow`"):
        archive(Release("1.0.0", "0" * 40, ()), tmp_path / "shallow")
