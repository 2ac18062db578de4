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
    MIXES,
    ROOT,
    all_features,
    commit_all,
    name_of,
    processes_of,
    run,
    template,
    uv,
)
from ruff import find_ruff_bin  # type: ignore[import-untyped]
from snippets import blocks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this repository to which the tutorial has been applied."""
    copy = tmp_path_factory.mktemp("extended") / "copier-quart"
    run(*GIT, "clone", "-q", template(), copy, cwd=ROOT)
    for block in blocks((ROOT / "docs" / "extend.md").read_text()):
        if block.file is None:
            continue
        file = copy / block.file
        if block.language == "diff":
            for change in block.text.split("@@\n"):
                file.write_text(changed(file.read_text(), change, block.file))
        else:
            assert not file.exists()
            file.write_text(block.text)
    commit_all(copy, "Add mail as a backend")
    return copy


def changed(text: str, change: str, path: str) -> str:
    """Apply a change. The lines without a sign say where, and no other place may have them."""
    lines = [(line[:1], line[1:]) for line in change.splitlines(keepends=True)]
    old, new = ("".join(line for sign, line in lines if sign != other) for other in "+-")
    assert text.count(old) == 1, f"{path} has {text.count(old)} places for:\n{change}"
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("backends", "features"),
    [(["smtp"], all_features([])), (["redis", "smtp"], FEATURES[:1])],
    ids=str,
)
def test_a_service_with_the_new_backend_passes_its_own_checks(
    backends: list[str], features: Sequence[str], extended: Path, tmp_path: Path
) -> None:
    """On a real server of the new kind."""
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
    tested = uv("run", "--quiet", "pytest", "-q", cwd=project)
    uv("run", "mypy", cwd=project)

    assert re.search(r"\d+ passed", tested.output)
    assert not re.search("failed|error|skipped|warning", tested.output)
    assert processes_of(tmp_path) == []


def test_the_templates_own_tests_know_the_new_backend(extended: Path) -> None:
    """With the changes of the tutorial, they find nothing wrong."""
    chosen = f"{name_of(['http', 'smtp'])}-with-{MIXES[0]}"

    tested = run(
        *(sys.executable, "-m", "pytest", "-q", "tests/generate/test_generation.py", "-k", chosen),
        cwd=extended,
    )
    run(find_ruff_bin(), "check", "--no-cache", cwd=extended)

    assert re.search(r"[1-9]\d* passed", tested.output)


def test_shared_files_know_no_backend(extended: Path) -> None:
    """A backend is a column of files, an entry and a row: no other file names all of them."""
    others = set.intersection(*(mentioned(extended, backend) for backend in BACKENDS))

    assert others == set()


def mentioned(repository: Path, backend: str) -> set[str]:
    """Return the files of the template that name a backend and belong to another, or to none."""
    found = run("git", "grep", "-l", rf'["\']{backend}["\']', "--", "template", cwd=repository)
    return {name for name in found.output.split() if backend not in Path(name).name}


def test_a_place_that_is_not_clear_is_found() -> None:
    """A change whose lines have moved or are there twice must not go somewhere else."""
    assert changed("a\nb\nc\n", " a\n+new\n b\n", "x") == "a\nnew\nb\nc\n"
    with pytest.raises(AssertionError, match="0 places"):
        changed("a\n", " b\n+new\n", "x")
    with pytest.raises(AssertionError, match="2 places"):
        changed("a\na\n", " a\n+new\n", "x")
