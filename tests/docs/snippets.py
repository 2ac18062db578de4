"""The code of a page: blocks below the name of a file, and blocks without one."""

import re
from collections.abc import Iterator
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
