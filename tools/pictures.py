"""Take the pictures of the README from a real session. `make pictures` runs it.

It generates a service with Redis and HTTP in a terminal, starts it, and opens its welcome page in a
browser. It needs Chromium.
"""

import contextlib
import io
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from harness import ROOT, uv
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text
from running import BROWSERS, ask, dev, find_browser, free_port, wait_for
from terminal import CLEAR, DOWN, ENTER, SPACE, copier_copy

IMAGES = ROOT / "docs" / "images"

COMMAND = 'uvx copier copy "$TEMPLATE" orders'
"""What people type."""

ROWS, COLUMNS = 30, 88
PAGE = "1060,692"
"""Width and height of the browser window, in pixels."""

LINE_HEIGHT, MARGIN = 24.4, 14
"""Pixels. Rich uses the same line height."""

FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} HEIGHT">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<rect width="100%" height="100%" rx="8" fill="#1b1d23"/>
<g transform="translate(MARGIN, MARGIN)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""A terminal without Rich's frame and without fonts from the network."""


class Recorder(pyte.Stream):
    """Draws the output of a program on a screen. pexpect uses it as a file."""

    def write(self, output: str) -> None:
        """Draw some output."""
        self.feed(output)

    def flush(self) -> None:
        """Do nothing: the output is drawn already."""


def main() -> None:
    """Take all pictures."""
    browser = find_browser()
    if browser is None:
        sys.exit(f"pictures: install one of these browsers: {', '.join(BROWSERS)}")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        take_questions(Path(name), IMAGES / "questions.svg")
        take_page(browser, Path(name) / "orders", IMAGES / "welcome.png")


def take_questions(folder: Path, picture: Path) -> None:
    """Generate the service, and draw the terminal at the choice of backends."""
    screen = pyte.Screen(COLUMNS, ROWS)
    terminal = copier_copy(folder, ROWS, COLUMNS)
    terminal.logfile_read = Recorder(screen)
    for question, keys in (
        ("What is the name of the service", CLEAR + "Orders" + ENTER),
        ("What does it do", ENTER),
        ("Which backends does it use", SPACE + DOWN + SPACE + DOWN),
    ):
        terminal.expect(question)
        settle(terminal)
        terminal.send(keys)
    settle(terminal)
    picture.write_text(draw(screen))
    terminal.send(ENTER)
    for question in (
        "What else",
        "Where do you run CI",
        "Which licence",
        "s name",
        "e-mail address",
    ):
        terminal.expect(question)
        terminal.send(ENTER)
    terminal.expect("Orders is ready")
    terminal.expect(pexpect.EOF)


def settle(terminal: "pexpect.spawn[str]") -> None:
    """Wait until the program has printed everything."""
    with contextlib.suppress(pexpect.TIMEOUT):
        while True:
            terminal.expect(r".+", timeout=0.5)


def draw(screen: pyte.Screen) -> str:
    """Return a screen as SVG, below the command that was typed."""
    lines = [line_of(screen, row) for row in range(ROWS)]
    while not lines[-1].plain:
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ ", "bold green") + Text(COMMAND, "bold white"))
    for line in lines:
        console.print(line, no_wrap=True)
    svg = console.export_svg(theme=MONOKAI, code_format=FORMAT, unique_id="terminal")
    height = round((len(lines) + 1) * LINE_HEIGHT + 2 * MARGIN)
    svg = svg.replace("HEIGHT", str(height)).replace("MARGIN", str(MARGIN))
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def line_of(screen: pyte.Screen, row: int) -> Text:
    """Return a line of a screen as text of Rich."""
    line = Text()
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    for style, group in groupby(cells, key=style_of):
        line.append("".join(cell.data for cell in group), style)
    line.rstrip()
    return line


def style_of(cell: pyte.screens.Char) -> Style:
    """Return the style of a character."""
    foreground, background = colour(cell.fg), colour(cell.bg)
    return Style(color=foreground, bgcolor=background, bold=cell.bold, reverse=cell.reverse)


def colour(name: str) -> str | None:
    """Return Rich's name for a colour of the terminal; None: the default."""
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else name.replace("brown", "yellow")


def take_page(browser: str, project: Path, picture: Path) -> None:
    """Run the service, and take a screenshot of its welcome page."""
    uv("sync", "--quiet", cwd=project)
    port = free_port()
    with dev(project, "--port", str(port)):
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        # Without the sandbox, the browser also runs as root. It opens only this page.
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
        output = (f"--window-size={PAGE}", f"--screenshot={picture}", "--virtual-time-budget=3000")
        url = f"http://127.0.0.1:{port}/"
        subprocess.run([browser, *options, *output, url], check=True, capture_output=True)


if __name__ == "__main__":
    main()
