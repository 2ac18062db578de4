"""The code of a page: blocks below the name of a file, and blocks without one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^(?P<fence>`{3,})(?P<language>\w+)\n(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)

FUNCTION = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)


class Block(NamedTuple):
    """A block of a page. file: the path above it, if there is one."""

    file: str | None
    language: str
    text: str


def blocks(page: str, language: str | None = None) -> Iterator[Block]:
    """Yield the blocks of a page; language: only those in this one."""
    for found in BLOCK.finditer(page):
        if language in {None, found["language"]}:
            yield Block(found["file"], found["language"], found["text"])


def register(project: Path, *modules: str) -> None:
    """List the blueprints of modules, as `blueprints/__init__.py` says."""
    path = project / "src" / "orders" / "blueprints" / "__init__.py"
    text = path.read_text()
    imports = "# Yours, for example: from . import invoices\n"
    listed = "    # Yours, for example: invoices.blueprint,\n"
    assert imports in text
    assert listed in text
    text = text.replace(imports, f"from . import {', '.join(sorted(modules))}\n")
    path.write_text(text.replace(listed, "".join(f"    {each}.blueprint,\n" for each in modules)))
