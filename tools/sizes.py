"""How large services are. `make check` prints the figures; README and docs may quote no others."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from harness import files_of, generate, size_of, template


class Choice(NamedTuple):
    """Answers, and the files and lines that a service with them may have."""

    answers: Mapping[str, Any]
    files: int
    lines: int


CHOICES = {
    "all backends": Choice({}, 58, 5158),
    "only http": Choice({"backends": ["http"]}, 42, 2954),
    "nothing": Choice({"backends": [], "features": []}, 30, 2098),
}
"""Budgets only go down. The goals are 4,500, 2,800 and 1,900 lines."""


def measure(answers: Mapping[str, Any]) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the files and lines of a service, and its lines by area."""
    with TemporaryDirectory() as folder:
        project = generate(Path(folder) / "orders", **answers)
        areas = dict.fromkeys(("src", "dev", "tests", "other"), 0)
        for name, content in files_of(project).items():
            area = name.partition("/")[0]
            areas[area if area in areas else "other"] += content.count(b"\n")
        return size_of(project), areas


if __name__ == "__main__":
    for name, choice in CHOICES.items():
        (files, lines), areas = measure(choice.answers)
        parts = ", ".join(f"{area} {count:,}" for area, count in areas.items())
        print(f"{name:13} {files} files and {lines:,} lines ({parts})")
    shutil.rmtree(template())
