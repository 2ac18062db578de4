"""The tutorial: a copy of this repository gets a fifth backend, by the blocks of the text alone."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from copier import Settings, run_copy
from harness import (
    BACKENDS,
    FEATURES,
    GIT,
    ROOT,
    commit_all,
    name_of,
    processes_of,
    run,
    template,
    uv,
)
from ruff import find_ruff_bin  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow

BLOCK = re.compile(
    r"^`(?P<path>[^`\n]+)`:\n\n(?P<fence>`{3,})(?P<language>\w+)\n(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
"""A file, or a change of one, below its path."""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this repository in which all that the tutorial says has been done."""
    copy = tmp_path_factory.mktemp("extended") / "copier-quart"
    run(*GIT, "clone", "-q", template(), copy, cwd=ROOT)
    for block in BLOCK.finditer((ROOT / "docs" / "extend.md").read_text()):
        file = copy / block["path"]
        if block["language"] == "diff":
            file.write_text(changed(file.read_text(), block["text"], block["path"]))
        else:
            assert not file.exists()
            file.write_text(block["text"])
    commit_all(copy, "Add NATS as a backend")
    return copy


def changed(text: str, change: str, path: str) -> str:
    """Apply a change, whose place its lines without a sign say; it must be the only such place."""
    lines = [(line[:1], line[1:]) for line in change.splitlines(keepends=True)]
    old, new = ("".join(line for sign, line in lines if sign != other) for other in "+-")
    assert text.count(old) == 1, f"{path} has {text.count(old)} places for:\n{change}"
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("backends", "features"), [(["nats"], FEATURES), (["redis", "nats"], FEATURES[:2])], ids=str
)
def test_a_service_with_the_new_backend_passes_its_own_checks(
    backends: list[str], features: Sequence[str], extended: Path, tmp_path: Path
) -> None:
    """On a real server of it, which is also killed and frozen."""
    project = tmp_path / "orders"
    run_copy(
        str(extended),
        project,
        data={"project_name": "Orders", "backends": backends, "features": list(features)},
        vcs_ref="HEAD",
        defaults=True,
        quiet=True,
        settings=Settings(),
    )

    run(find_ruff_bin(), "check", "--no-cache", cwd=project)
    run(find_ruff_bin(), "format", "--check", "--no-cache", cwd=project)
    tested = uv("run", "--quiet", "pytest", "-q", "-m", "", cwd=project)
    uv("run", "mypy", cwd=project)

    assert re.search(r"\d+ passed", tested.output)
    assert not re.search("failed|error|skipped|warning", tested.output)
    assert processes_of(tmp_path) == []


def test_the_templates_own_tests_know_the_new_backend(extended: Path) -> None:
    """As the tutorial changes them, they find nothing wrong."""
    chosen = f"{name_of(['http', 'nats'])}-with-examples-openapi-container-github-mit"

    tested = run(sys.executable, "-m", "pytest", "-q", "-k", chosen, cwd=extended)
    run(find_ruff_bin(), "check", "--no-cache", cwd=extended)

    assert re.search(r"8 passed", tested.output)


def test_the_tutorial_names_every_place(extended: Path) -> None:
    """Where the template speaks of each of the others, it speaks of the new one."""
    others = set.intersection(*(mentioned(extended, backend) for backend in BACKENDS))

    assert len(others) > 5
    assert others - mentioned(extended, "nats") == set()


def mentioned(repository: Path, backend: str) -> set[str]:
    """Return the shared files that a condition or a table ties to a backend."""
    found = run("git", "grep", "-l", rf'["\']{backend}["\']', "--", "template", cwd=repository)
    return {name for name in found.output.split() if backend not in Path(name).name}


def test_a_place_that_is_not_clear_is_found() -> None:
    """A change whose lines have moved or are there twice must not go somewhere else."""
    assert changed("a\nb\nc\n", " a\n+new\n b\n", "x") == "a\nnew\nb\nc\n"
    with pytest.raises(AssertionError, match="0 places"):
        changed("a\n", " b\n+new\n", "x")
    with pytest.raises(AssertionError, match="2 places"):
        changed("a\na\n", " a\n+new\n", "x")
