"""Versions that somebody has raised, as Renovate does, merge with whatever comes or goes."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest
from harness import BACKENDS, SUBSETS, commit_all, generate, git, name_of, update, uv

VERSIONS = {
    "pyproject.toml": r"""^    "[\w\[\],-]+(?:>=|==)(?=\d)""",
    "compose.yaml": r"^    image: [\w/]+:(?=\d)",
    "Dockerfile": r"^FROM \S+:(?=\d)",
    ".github/workflows/ci.yml": r"uses: \S+@(?=[0-9a-f]{40})",
    ".pre-commit-config.yaml": r"^    rev: v(?=\d)",
}
"""What comes before each version in the files that Renovate changes."""

TOGGLES = [*BACKENDS, "tracing"]


def raised(file: str, text: str, lines: Iterable[str]) -> str:
    """Return a text in which these lines, where they have a version, have a higher one."""
    wanted = set(lines)
    return "".join(
        re.sub(VERSIONS[file], r"\g<0>9", line) if line in wanted else line
        for line in text.splitlines(keepends=True)
    )


def answers(chosen: Iterable[str]) -> dict[str, list[str]]:
    """Return choices as answers."""
    backends = [name for name in BACKENDS if name in chosen]
    return {"backends": backends, "features": ["container", *({"tracing"} & set(chosen))]}


def texts(project: Path) -> dict[str, str]:
    """Return the files that have versions."""
    return {file: (project / file).read_text() for file in VERSIONS}


def add(project: Path, *packages: str) -> None:
    """Add dependencies as users do: uv writes the lists of pyproject.toml anew."""
    for package in packages:
        uv("add", "--quiet", "--frozen", package, cwd=project)
    uv("add", "--quiet", "--frozen", "--dev", *(f"types-{name}" for name in packages), cwd=project)


def some_are_slow(backends: Sequence[str]) -> list[pytest.MarkDecorator]:
    """Leave a sample to the quick tier."""
    return [] if backends == ["postgres"] else [pytest.mark.slow]


@pytest.mark.parametrize(
    "backends",
    [pytest.param(subset, id=name_of(subset), marks=some_are_slow(subset)) for subset in SUBSETS],
)
def test_raised_versions_survive_every_toggle(backends: list[str], workbench: Path) -> None:
    """All versions at once, beside each part that comes or goes, and with `uv add`."""
    project = generate(workbench / "orders", **answers(backends), commit=True)
    add(project, "aiofiles", "orjson")
    commit_all(project)
    start = texts(project)
    for toggle in TOGGLES:
        chosen = set(backends) ^ {toggle}
        fresh = texts(generate(workbench / toggle, **answers(chosen)))  # type: ignore[arg-type]
        for file, text in start.items():
            lines = fresh[file].splitlines(keepends=True)
            (project / file).write_text(raised(file, text, lines))
        commit_all(project)

        update(project, **answers(chosen))

        assert git("ls-files", "-u", cwd=project) == "", toggle
        for file, text in texts(project).items():
            own = [line for line in text.splitlines() if re.search("aiofiles|orjson", line)]
            rest = [line for line in text.splitlines() if line not in own]
            expected = raised(file, fresh[file], start[file].splitlines(keepends=True))
            assert rest == expected.splitlines(), toggle
            assert len(own) == (4 if file == "pyproject.toml" else 0)
        git("reset", "-q", "--hard", "HEAD~1", cwd=project)
        git("clean", "-qfd", cwd=project)


@pytest.mark.slow
def test_versions_and_dependencies_change_between_updates(workbench: Path) -> None:
    """A part comes, versions are raised, a package is added, and the part goes again."""
    project = generate(workbench / "orders", ["postgres"], commit=True)
    lines = texts(project)["pyproject.toml"].splitlines(keepends=True)
    for number, chosen in enumerate((["postgres", "mongo"], ["postgres"], [*BACKENDS, "tracing"])):
        add(project, f"package{number}")
        path = project / "pyproject.toml"
        path.write_text(raised("pyproject.toml", path.read_text(), lines))
        commit_all(project)

        update(project, **answers(chosen))

        assert git("ls-files", "-u", cwd=project) == ""
        commit_all(project)
    added = re.findall(r'"(?:types-)?package\d', texts(project)["pyproject.toml"])
    assert len(added) == 6


def test_a_raised_version_of_what_goes_is_a_conflict_that_shows(workbench: Path) -> None:
    """Both have changed that line."""
    project = generate(workbench / "orders", ["postgres", "redis"], commit=True)
    path = project / "pyproject.toml"
    path.write_text(path.read_text().replace("redis>=", "redis>=9"))
    commit_all(project)

    update(project, backends=["postgres"])

    conflicts = git("ls-files", "-u", "--format=%(path)", cwd=project).splitlines()
    assert set(conflicts) == {"pyproject.toml"}


@pytest.mark.slow
def test_each_version_raised_alone_survives_every_toggle(workbench: Path) -> None:
    """All subsets, by the commands of git that an update runs."""
    fresh: dict[frozenset[str], str] = {}
    for subset in SUBSETS:
        for extra in ([], ["tracing"]):
            project = generate(workbench / "orders", **answers([*subset, *extra]))  # type: ignore[arg-type]
            fresh[frozenset([*subset, *extra])] = (project / "pyproject.toml").read_text()
            subprocess.run(["rm", "-r", project], check=True)
    git("init", "-q", cwd=workbench)
    tried = 0
    for chosen, before in fresh.items():
        for toggle in TOGGLES:
            after = fresh[chosen ^ {toggle}]
            both = set(before.splitlines(keepends=True)) & set(after.splitlines(keepends=True))
            for line in both:
                mine = raised("pyproject.toml", before, [line])
                if mine != before:
                    tried += 1
                    expected = raised("pyproject.toml", after, [line])
                    assert merged(before, mine, after, workbench) == expected, (line, toggle)
    assert tried > 3000


def merged(before: str, mine: str, after: str, folder: Path) -> str:
    """Merge as Copier does: apply the user's change, or else merge the three texts."""
    change = difference(before, mine, folder)
    (folder / "file").write_text(after)
    apply = ["git", "apply", "--reject", "-"]
    applied = subprocess.run(
        apply,
        cwd=folder,
        input=change.replace(b"a/before", b"a/file"),
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if applied.returncode:
        for name, text in {"before": before, "file": mine, "after": after}.items():
            (folder / name).write_text(text)
        git("merge-file", "file", "before", "after", cwd=folder)
    return (folder / "file").read_text()


@cache
def difference(before: str, mine: str, folder: Path) -> bytes:
    """Return the user's change, which is the same for every toggle."""
    (folder / "before").write_text(before)
    (folder / "file").write_text(mine)
    diff = ("diff", "--no-index", "--inter-hunk-context=-1", "before", "file")
    return subprocess.run(["git", *diff], cwd=folder, stdout=subprocess.PIPE, check=False).stdout
