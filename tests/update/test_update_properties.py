"""Whatever road users take, with whatever edits: nothing is lost, and nothing else differs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from harness import (
    BACKENDS,
    SUBSETS,
    all_features,
    commit_all,
    files_of,
    generate,
    git,
    update,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_edits import EDITS

OWN = "# {} is mine"
"""A line that a user inserts somewhere."""

CAN_COMMENT = (".py", ".toml", ".example", ".gitignore")

Line = tuple[int, int]
"""Where a user inserts a line: two numbers, of which follow the file and the place in it."""

TOGGLES = [*BACKENDS, *all_features()]

CAN_GO = [name for name in TOGGLES if name != "container"]
"""What is added and taken away; the container stays, as one of the edits is in its files."""


def toggled(chosen: list[str], toggle: str) -> list[str]:
    """Return the choices with one more, or one less."""
    after = [name for name in TOGGLES if (name in chosen) != (name == toggle)]
    backends = [name for name in after if name in BACKENDS]
    possible = {*BACKENDS, *all_features(backends)}
    return [name for name in after if name in possible]


def answers(chosen: list[str]) -> dict[str, list[str]]:
    """Return choices as answers."""
    backends = [name for name in chosen if name in BACKENDS]
    return {"backends": backends, "features": [name for name in chosen if name not in BACKENDS]}


def insert(project: Path, lines: list[Line]) -> dict[str, set[str]]:
    """Insert the user's lines and return, for each file, which it now has."""
    files = sorted(name for name in files_of(project) if name.endswith(CAN_COMMENT))
    inserted: dict[str, set[str]] = {}
    for number, (file, place) in enumerate(lines):
        name = files[file % len(files)]
        text = (project / name).read_text().splitlines()
        text.insert(place % (len(text) + 1), OWN.format(number))
        (project / name).write_text("\n".join(text) + "\n")
        inserted.setdefault(name, set()).add(OWN.format(number))
    return inserted


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    start=st.sampled_from(SUBSETS),
    toggles=st.lists(st.sampled_from(CAN_GO), min_size=1, max_size=2),
    without=st.sets(st.sampled_from(sorted(EDITS)), max_size=5),
    lines=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=4),
)
def test_no_road_loses_an_edit(
    start: list[str], toggles: list[str], without: set[str], lines: list[Line], workbench: Path
) -> None:
    """After each step, the project is a fresh one with the same edits.

    A line that a user puts right into what depends on the answers may conflict; then it shows.
    """
    with TemporaryDirectory(dir=workbench) as folder:
        project = generate(Path(folder) / "orders", start, features=["container"], commit=True)
        edits = [edit for name, (edit, _) in sorted(EDITS.items()) if name not in without]
        for edit in edits:
            edit(project)
        own = insert(project, lines)
        commit_all(project, "Edit")
        chosen = [*start, "container"]
        for step, toggle in enumerate(toggles):
            chosen = toggled(chosen, toggle)
            update(project, **answers(chosen))
            fresh = generate(Path(folder) / f"fresh-{step}", **answers(chosen))  # type: ignore[arg-type]
            for edit in edits:
                edit(fresh)
            own = {file: mine for file, mine in own.items() if (fresh / file).exists()}
            if not same(project, fresh, own):
                return
            commit_all(project)


def same(project: Path, fresh: Path, own: dict[str, set[str]]) -> bool:
    """Check a project; own: the lines that the user has put into files.

    Returns whether it has no conflicts, so that it can go on.
    """
    found, expected = files_of(project), files_of(fresh)
    conflicts = set(git("ls-files", "-u", "--format=%(path)", cwd=project).splitlines())
    assert set(found) == set(expected)
    assert conflicts <= set(own), "only a line in what depends on the answers may conflict"
    for name, content in found.items():
        mine = own.get(name, set())
        assert all(line in content.decode() for line in mine), f"a line was lost in {name}"
        if name not in conflicts:
            rest = [line for line in content.decode().splitlines() if line not in mine]
            wanted = expected[name].decode().splitlines()
            assert in_order(name, rest) == in_order(name, wanted), name
    return not conflicts


def in_order(name: str, lines: list[str]) -> list[str]:
    """Return lines as they stand; but `uv add` puts what it adds beside what is there by then."""
    return sorted(lines) if name == "pyproject.toml" else lines
