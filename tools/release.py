"""Print the version of the template, or its notes: `release.py version`, `release.py notes`.

`.github/workflows/release.yml` runs it with a bare Python. It exits with one line that says what is
wrong if CHANGELOG.md does not describe the version of pyproject.toml.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADING = re.compile(r"^## \[(?P<version>[^]\n]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)

RELEASED = re.compile(r"\d+\.\d+\.\d+")

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def version_of(root: Path) -> str:
    """Return the version in `pyproject.toml`, such as "1.0.0"."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def notes(root: Path) -> str:
    """Return what CHANGELOG.md says about the version of pyproject.toml, without the heading.

    Raises ValueError if its newest version is another one, has no date, or says nothing.
    """
    version = version_of(root)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = list(HEADING.finditer(changelog))
    released = [found for found in headings if RELEASED.fullmatch(found["version"])]
    if not released or released[0]["version"] != version:
        newest = released[0]["version"] if released else "none"
        raise ValueError(f"CHANGELOG.md has {newest} as its newest version, not {version}")
    if not DATE.fullmatch(released[0]["date"] or ""):
        raise ValueError(f"CHANGELOG.md has no date for {version}, like 2026-11-27")
    following = headings[headings.index(released[0]) + 1 :]
    end = following[0].start() if following else len(changelog)
    text = changelog[released[0].end() : end].strip()
    if not text:
        raise ValueError(f"CHANGELOG.md says nothing about {version}")
    return text + "\n"


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Print the version or the notes; both ask that the two files agree."""
    if arguments not in (["version"], ["notes"]):
        sys.exit("release.py: give `version` or `notes`")
    try:
        text = notes(root)
    except ValueError as error:
        sys.exit(f"release.py: {error}")
    sys.stdout.write(text if arguments == ["notes"] else f"{version_of(root)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
