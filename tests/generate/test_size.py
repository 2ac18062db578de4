"""Size is a feature: a service stays small, and what README and docs say about it is true."""

import re
from pathlib import Path

import pytest
import sizes
from harness import ROOT, SUBSETS, generate, name_of

QUOTED = re.compile(r"(\d[\d,]*)\s+files\s+and\s+(\d[\d,]*)\s+lines")

BEFORE = {(91, 7937), (69, 5450), (42, 3479)}
"""The sizes before 1.0, which the history mentions."""


@pytest.mark.parametrize("name", sizes.CHOICES)
def test_a_service_stays_within_its_budget(name: str) -> None:
    """All files and lines that a team then owns."""
    choice = sizes.CHOICES[name]

    (files, lines), areas = sizes.measure(choice.answers)

    assert files <= choice.files, areas
    assert lines <= choice.lines, areas


def test_readme_and_docs_quote_the_figures_of_today() -> None:
    """As `make check` prints them."""
    today = {sizes.measure(choice.answers)[0] for choice in sizes.CHOICES.values()}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]

    for page in pages:
        for files, lines in QUOTED.findall(page.read_text()):
            figure = int(files.replace(",", "")), int(lines.replace(",", ""))
            assert figure in today | BEFORE, f"{page.name} says {files} files and {lines} lines"


@pytest.mark.parametrize("backends", [SUBSETS[0], SUBSETS[-1]], ids=name_of)
def test_what_people_and_agents_read_first_is_short(backends: list[str], tmp_path: Path) -> None:
    """README.md and AGENTS.md of a service."""
    project = generate(tmp_path / "orders", backends)

    assert len((project / "README.md").read_text().splitlines()) <= 170
    assert len((project / "AGENTS.md").read_text().splitlines()) <= 45
    for name in ("README.md", "AGENTS.md"):
        longest = max((project / name).read_text().splitlines(), key=len)
        assert len(longest) <= 120, longest
