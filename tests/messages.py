"""The command in the message after copying, which makes the same service without prompts."""

import re
import shlex
import sys
from pathlib import Path

from harness import run

COMMAND = re.compile(r"^ *uvx copier copy --defaults(?: \\\n[^\n]+?)+(?=\n)", re.MULTILINE)


def shown_command(message: str) -> str:
    """Return the command that a message shows."""
    (command,) = COMMAND.findall(message)
    return str(command)


def again(command: str, folder: Path) -> None:
    """Run a command that begins with `uvx copier`, as a shell reads it, in a new folder."""
    folder.mkdir()
    uvx = f'uvx() {{ shift; {shlex.quote(sys.executable)} -m copier "$@"; }}'
    run("bash", "-c", f"{uvx}\n{command}", cwd=folder)
