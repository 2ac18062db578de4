"""Takes the pictures of the README from a real session; `make pictures` runs it.

A service with Redis and HTTP is generated in a terminal, started, and its welcome page is opened
in a browser. Fails when no Chromium is installed.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

COLUMNS, ROWS = 88, 30
PAGE = (1060, 692)
"""Width and height of the browser's window, in pixels."""

LINE_HEIGHT = 24.4
"""Pixels, as Rich has it."""

DOWN, SPACE, ENTER = "\x1b[B", " ", "\r"
CLEAR = "\x15"

FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} HEIGHT">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<rect width="100%" height="100%" rx="8" fill="#1b1d23"/>
<g transform="translate(14, 14)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Terminal:
    """A program in a terminal, and what is to be seen there."""

    def __init__(self, command: str, *arguments: str, cwd: Path) -> None:
        """Start the program in a folder."""
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        self.process = pexpect.spawn(
            command,
            list(arguments),
            cwd=cwd,
            env=environment | {"TERM": "xterm-256color"},
            encoding="utf-8",
            timeout=120,
            dimensions=(ROWS, COLUMNS),
        )
        self.process.logfile_read = self

    def write(self, output: str) -> None:
        """Take what the program has printed."""
        self._stream.feed(output)

    def flush(self) -> None:
        """Do nothing: what was written is on the screen."""

    def answer(self, question: str, keys: str) -> None:
        """Wait for a question, and press keys."""
        self.process.expect(question)
        self.settle()
        self.process.send(keys)

    def settle(self) -> None:
        """Wait until the program prints nothing more."""
        with contextlib.suppress(pexpect.TIMEOUT):
            while True:
                self.process.expect(r".+", timeout=0.5)

    def picture(self, name: str, prompt: str) -> None:
        """Write the screen as a picture, below the command that led to it."""
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        console.print(Text("$ ", "bold green") + Text(prompt, "bold white"))
        lines = [self._line(row) for row in range(ROWS)]
        while not lines[-1].plain.strip():
            lines.pop()
        for line in lines:
            console.print(line, no_wrap=True)
        svg = console.export_svg(theme=MONOKAI, code_format=FORMAT, unique_id="terminal")
        svg = svg.replace("HEIGHT", str(round((len(lines) + 1) * LINE_HEIGHT + 2 * 14)))
        (IMAGES / name).write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE))

    def _line(self, row: int) -> Text:
        line = Text()
        cells = [self._screen.buffer[row][column] for column in range(COLUMNS)]
        for style, group in groupby(cells, key=_style):
            line.append("".join(cell.data for cell in group), style)
        line.rstrip()
        return line


def _style(cell: pyte.screens.Char) -> Style:
    """Return how a character looks, as Rich says it."""
    foreground, background = _colour(cell.fg), _colour(cell.bg)
    return Style(color=foreground, bgcolor=background, bold=cell.bold, reverse=cell.reverse)


def _colour(name: str) -> str | None:
    """Return a colour of the terminal as Rich calls it."""
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else name.replace("brown", "yellow")


def main() -> None:
    """Take all pictures."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"pictures: none of these browsers is installed: {', '.join(BROWSERS)}")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ask_questions(folder)
        with running(folder / "orders") as url:
            take_page(browser, url, IMAGES / "welcome.png")
    print(*(f"{path.name}: {path.stat().st_size} bytes" for path in IMAGES.iterdir()), sep="\n")


def ask_questions(folder: Path) -> None:
    """Generate the service, and take a picture of the choice of backends."""
    copier = ("-m", "copier", "copy", "--vcs-ref", "HEAD", str(ROOT), "orders")
    terminal = Terminal(sys.executable, "-W", "ignore", *copier, cwd=folder)
    terminal.answer("What is the service called", CLEAR + "Orders" + ENTER)
    terminal.answer("What does it do", ENTER)
    terminal.answer("Which backends does it use", SPACE + DOWN + SPACE + DOWN)
    terminal.settle()
    terminal.picture("questions.svg", 'uvx copier copy "$PWD/copier-quart" orders')
    terminal.process.send(ENTER)
    for question in ("What else", "continuous", "Under which", "Who is its", "e-mail address"):
        terminal.answer(question, ENTER)
    terminal.process.expect("Orders is ready")
    terminal.process.expect(pexpect.EOF)


@contextlib.contextmanager
def running(project: Path) -> Iterator[str]:
    """Run the service until the end of the `with` block, and return the address of its page."""
    subprocess.run([find_uv_bin(), "sync", "--quiet"], cwd=project, check=True)
    terminal = Terminal(find_uv_bin(), "run", "--quiet", "-m", "dev", cwd=project)
    terminal.process.expect("Ctrl-C stops everything")
    try:
        yield "http://127.0.0.1:8000/"
    finally:
        terminal.process.sendintr()
        terminal.process.expect(pexpect.EOF)


def take_page(browser: str, url: str, picture: Path) -> None:
    """Write what a browser shows of a page."""
    size = ",".join(map(str, PAGE))
    # Without its sandbox it also runs as root; it sees nothing but this page.
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    wait = "--virtual-time-budget=3000"
    command = [browser, *options, wait, f"--window-size={size}", f"--screenshot={picture}", url]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
