"""The guides: every command in them runs, in order, and prints what they show."""

import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, VERSION, Outcome, generate, git, run, template, uv

pytestmark = pytest.mark.slow

PAGES = sorted((ROOT / "docs").rglob("*.md"))

BLOCK = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
"""A block of commands, or of a file that is named above it."""

ELSEWHERE = ("uv sync", "uv run")
"""Commands that other tests run, as they take long."""


def script(guide: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return a guide as a script, and each command with the lines that it must print."""
    lines: list[str] = ["set -e"]
    commands: list[tuple[str, list[str]]] = []
    for block in BLOCK.finditer(guide):
        if block["file"]:
            path = shlex.quote(block["file"]).replace("'~/", "~/'").replace("~/", '"$HOME"/')
            lines += [
                f'mkdir -p "$(dirname {path})"',
                f"cat > {path} <<'END'",
                block["text"] + "END",
            ]
        if block["language"] != "console":
            continue
        for line in block["text"].splitlines():
            if not line.startswith("$ "):
                commands[-1][1].append(line)
            elif not line.startswith(ELSEWHERE, 2):
                lines += [f"echo '@ {len(commands)}'", line[2:]]
                commands.append((line[2:], []))
    return "\n".join([*lines, ""]), commands


@pytest.mark.parametrize("guide", ["update.md", "standardize.md"])
def test_a_guide_does_what_it_says(guide: str, workbench: Path) -> None:
    """Each shown line is printed, in the order shown; `...` stands for others."""
    text, commands = script((ROOT / "docs" / guide).read_text())

    outcome = play(text, workbench)

    assert outcome.code == 0, outcome.output
    printed = re.split(r"^@ \d+\n", outcome.output, flags=re.MULTILINE)[1:]
    assert len(printed) == len(commands) > 10
    for (command, shown), output in zip(commands, printed, strict=True):
        rest = iter(output.splitlines())
        for line in shown:
            assert line == "..." or line in rest, f"{command} does not print {line!r}:\n{output}"
        if command.startswith(("git", "grep")) and "..." not in shown:
            assert output.splitlines() == shown, command


def play(text: str, folder: Path) -> Outcome:
    """Run a script beside a clone of the template, as somebody whose home is this folder."""
    run("git", "clone", "-q", template(), folder / "copier-quart", cwd=folder)
    git("tag", "-f", VERSION, cwd=folder / "copier-quart")
    uvx = folder / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m copier "$@"\n')
    uvx.chmod(0o755)
    (folder / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.org\n")
    environment = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "PATH": f"{uvx.parent}:{os.environ['PATH']}",
    }
    return run("bash", "-c", text, cwd=folder, env=environment, check=False)


def test_the_code_of_the_async_guide_runs(tmp_path: Path) -> None:
    """What comes after each "before" works, and has the types that it says."""
    guide = (ROOT / "docs" / "async.md").read_text()
    blocks = [block["text"] for block in BLOCK.finditer(guide) if block["language"] == "python"]
    project = generate(tmp_path / "orders")
    for number, block in enumerate(blocks):
        module = f'"""From the guide."""\n\n{block}'
        (project / "src" / "orders" / f"guide_{number}.py").write_text(module)
    calls = [
        f"guide_{number}.{name}"
        for number, block in enumerate(blocks)
        for name in re.findall(r"^async def (\w+)", block, re.MULTILINE)
    ]
    (project / "tests" / "test_guide.py").write_text(
        GUIDE_TEST.format(
            modules=", ".join(f"guide_{number}" for number in range(len(blocks))),
            calls=", ".join(calls),
        )
    )

    tested = uv("run", "--quiet", "pytest", "-q", "tests/test_guide.py", cwd=project)
    uv("run", "mypy", "src", cwd=project)

    assert len(calls) == 6
    assert "6 passed" in tested.output


GUIDE_TEST = """
import pytest
from orders import {modules}
from orders.app import create_app


@pytest.mark.parametrize("call", [{calls}])
async def test_call(call):
    app = create_app()
    async with app.test_app(), app.app_context():
        assert await call()
"""


def test_the_guides_build_as_a_site(tmp_path: Path) -> None:
    """Each page has its place in the navigation, and no link between them is broken."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)

    run(Path(sys.executable).with_name("zensical"), "build", "--strict", cwd=tmp_path)

    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES]
    assert sorted(named(project["nav"])) == sorted(pages)
    assert (tmp_path / "site" / "index.html").is_file()


def named(navigation: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the pages that a navigation names, in it and in its sections."""
    for entry in navigation:
        for page in entry.values():
            yield from [page] if isinstance(page, str) else named(page)
