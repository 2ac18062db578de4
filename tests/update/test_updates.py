"""A project is a function of its answers and the template's version, not of the road taken."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from harness import (
    BACKENDS,
    SUBSETS,
    all_features,
    answers_of,
    commit_all,
    files_of,
    generate,
    git,
    name_of,
    update,
)

each_subset = pytest.mark.parametrize("backends", SUBSETS, ids=name_of)


@cache
def fresh(backends: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of a project generated with these backends."""
    with TemporaryDirectory() as folder:
        return files_of(generate(Path(folder) / "orders", backends))


def gray_code() -> list[tuple[str, ...]]:
    """Return all subsets in an order in which each differs from the next by one backend."""
    return [
        tuple(name for bit, name in enumerate(BACKENDS) if (number ^ (number >> 1)) >> bit & 1)
        for number in range(2 ** len(BACKENDS))
    ]


def assert_same(project: Path, expected: dict[str, bytes]) -> None:
    """Check that a project has exactly these files, byte for byte, and no conflict."""
    found = files_of(project)
    assert set(found) == set(expected)
    assert [name for name in found if found[name] != expected[name]] == []
    assert git("ls-files", "-u", cwd=project) == ""


@pytest.mark.slow
def test_a_walk_over_all_subsets(workbench: Path) -> None:
    """Adding and removing one backend after the other leads to the same as starting there."""
    *walk, last = gray_code()
    project = generate(workbench / "orders", last, commit=True)
    for backends in [*walk, last]:
        update(project, backends=list(backends))
        assert_same(project, fresh(backends))
        commit_all(project)


@pytest.mark.slow
@each_subset
def test_from_one_subset_to_every_other(backends: list[str], workbench: Path) -> None:
    """All 240 changes of backends, in one step each."""
    project = generate(workbench / "orders", backends, commit=True)
    for other in SUBSETS:
        if other != backends:
            update(project, backends=other)
            assert_same(project, fresh(tuple(other)))
            git("reset", "-q", "--hard", cwd=project)
            git("clean", "-qfd", cwd=project)


Change: TypeAlias = tuple[dict[str, Any], dict[str, Any]]

QUICK: list[Change] = [
    ({}, {"features": []}),
    ({}, {"ci": "gitlab"}),
    ({}, {"description": 'Says "hello" \\ and {{ more }}'}),
]
OTHERS: list[Change] = [
    ({"features": []}, {"features": ["examples"]}),
    ({}, {"features": ["examples"]}),
    ({"features": ["examples"]}, {"features": ["examples", "container"]}),
    ({"ci": "gitlab"}, {"ci": "none"}),
    ({"ci": "none"}, {"ci": "github"}),
    ({"features": ["examples", "tracing"]}, {"features": ["examples"]}),
    ({"features": ["container", "tracing"]}, {"features": ["examples", "tracing"]}),
    ({"backends": [], "features": []}, {"features": ["auth"]}),
    ({"backends": ["http"], "features": ["auth"]}, {"backends": [], "features": []}),
    ({"features": ["examples", "auth"]}, {"features": ["examples", "container"]}),
    ({"features": ["tracing"]}, {"features": ["tracing", "jobs"]}),
    ({"features": all_features()}, {"features": ["examples", "container"]}),
    (
        {"backends": ["redis", "http"], "features": ["examples", "jobs"]},
        {"backends": ["http"], "features": ["examples"]},
    ),
    (
        {"backends": ["postgres"], "features": ["container"]},
        {"backends": ["postgres", "redis"], "features": ["container", "jobs"]},
    ),
    ({}, {"license": "Apache-2.0"}),
    ({}, {"features": ["container", "kubernetes"]}),
    (
        {"features": ["container", "kubernetes"]},
        {"features": ["container", "tracing", "kubernetes"]},
    ),
    ({"features": ["container", "tracing", "kubernetes"]}, {"features": []}),
    ({"license": "Proprietary"}, {"license": "BSD-3-Clause"}),
    ({}, {"author_name": "Zoë", "author_email": "zoe@example.org"}),
    ({"author_name": "Zoë"}, {"author_name": ""}),
]


@pytest.mark.parametrize(
    ("before", "after"),
    [*QUICK, *(pytest.param(*change, marks=pytest.mark.slow) for change in OTHERS)],
    ids=str,
)
def test_any_other_answer(before: dict[str, Any], after: dict[str, Any], workbench: Path) -> None:
    """Each answer can change later."""
    project = generate(workbench / "orders", commit=True, **before)

    update(project, **after)

    assert_same(project, files_of(generate(workbench / "fresh", **(before | after))))


def test_an_update_without_changes_changes_nothing(workbench: Path) -> None:
    """Not even the order of a line."""
    project = generate(workbench / "orders", commit=True)

    update(project)

    assert git("status", "--porcelain", cwd=project) == ""
    assert answers_of(project)["backends"] == list(BACKENDS)
