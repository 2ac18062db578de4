"""Copier in a terminal, and the keys that answer its questions."""

import sys
from pathlib import Path

import pexpect
from harness import clean_environment, template

DOWN, SPACE, ENTER = "\x1b[B", " ", "\r"
CLEAR = "\x15"


def copier(*arguments: str, cwd: Path, rows: int = 40, columns: int = 120) -> "pexpect.spawn[str]":
    """Return a command of Copier waiting for answers."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "copier", *arguments],
        cwd=cwd,
        env=clean_environment() | {"TERM": "xterm", "COLUMNS": str(columns)},
        encoding="utf-8",
        timeout=60,
        dimensions=(rows, columns),
    )


def copier_copy(folder: Path, rows: int = 40, columns: int = 120) -> "pexpect.spawn[str]":
    """Return `copier copy` waiting for answers. It generates `orders` in a folder."""
    return copier("copy", str(template()), "orders", cwd=folder, rows=rows, columns=columns)
