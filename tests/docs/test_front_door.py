"""The README's quick start, typed word for word, from an address and from a folder."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest
from harness import (
    ROOT,
    answers_of,
    clean_environment,
    clone_from_address,
    commit_all,
    copier,
    files_of,
    git,
    processes_of,
    run,
    template,
)
from snippets import blocks
from terminal import DOWN, ENTER, SPACE
from uv import find_uv_bin

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()

PROMPT = "READY> "


@contextmanager
def shell(folder: Path) -> Iterator["pexpect.spawn[str]"]:
    """Yield a shell in a folder, in which `uvx copier` is the Copier of the tests."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "uvx").write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m copier "$@"\n')
    (programs / "uvx").chmod(0o755)
    (programs / "uv").symlink_to(find_uv_bin())
    (folder / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.org\n")
    terminal = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        cwd=folder,
        env=clean_environment()
        | {"PATH": f"{programs}:{os.environ['PATH']}", "UV_PYTHON": sys.executable}
        | {"GIT_CONFIG_GLOBAL": str(folder / ".gitconfig"), "GIT_PAGER": "cat", "TERM": "xterm"}
        | {"COPIER_CACHE_DIR": str(folder / "cache"), "PS1": PROMPT, "PS2": ""},
        encoding="utf-8",
        timeout=120,
        dimensions=(50, 200),
    )
    try:
        terminal.expect_exact(PROMPT)
        yield terminal
    finally:
        terminal.close(force=True)


def enter(terminal: "pexpect.spawn[str]", command: str, *dialogue: tuple[str, str]) -> str:
    """Type a command, answer its questions, and return what it printed; it must succeed."""
    terminal.sendline(command)
    printed = ""
    for question, keys in dialogue:
        terminal.expect(question)
        printed += str(terminal.before)
        terminal.send(keys)
    terminal.expect_exact(PROMPT)
    printed += str(terminal.before)
    terminal.sendline("echo code=$?")
    terminal.expect_exact("code=0", timeout=5)
    terminal.expect_exact(PROMPT)
    return printed


COPY = (
    ("What is the name of the service", "Orders" + ENTER),
    ("What does it do", ENTER),
    ("Outbound HTTP", SPACE + DOWN + SPACE + ENTER),
    ("What else", ENTER),
    ("Where do you run CI", ENTER),
    ("Which licence", ENTER),
    ("Author's name", ENTER),
    ("e-mail address", ENTER),
)
"""The questions, and keys for a service with Redis and HTTP."""

DIALOGUES = {
    "uvx copier copy": COPY,
    "uvx copier update": (("Outbound HTTP", SPACE + ENTER),),
    "uv run -m dev": (("Ctrl-C stops everything", "\x03"),),
}
"""What happens in a terminal after a command that begins so."""


def lines_of_readme() -> list[str]:
    """Return all commands of the README, in their order."""
    return [line for block in blocks(README, "sh") for line in block.text.splitlines()]


def test_the_readme_word_for_word(open_path: Path) -> None:
    """From an address to a service with a third backend, and a colleague's clone that updates."""
    address = clone_from_address(open_path)
    lines = lines_of_readme()
    project = open_path / "orders"

    with shell(open_path) as terminal:
        for line in lines:
            command = line.split("#")[0].strip()
            if command.startswith("uv run pytest"):
                with (project / "src" / "orders" / "mine.py").open("a") as mine:
                    mine.write("MINE = 1\n")
            starts = [each for each in DIALOGUES if command.startswith(each)]
            printed = enter(terminal, command, *(DIALOGUES[starts[0]] if starts else ()))
            assert "No git tags found" not in printed
            assert "Colleagues, CI and Renovate cannot update" not in printed
            if command.startswith("uv run pytest"):
                assert re.search(r"\d+ passed", printed)

    assert len(lines) >= 8
    assert answers_of(project)["_src_path"] == address
    assert answers_of(project)["backends"] == ["postgres", "redis", "http"]
    assert git("status", "--porcelain", cwd=project) == ""
    assert processes_of(project) == []
    a_colleague_updates(project, open_path / "elsewhere")


def a_colleague_updates(project: Path, elsewhere: Path) -> None:
    """In a clone of the service, with nothing else of the first person's at hand."""
    elsewhere.mkdir()
    run("git", "clone", "-q", project.as_uri(), "orders", cwd=elsewhere)
    updated = copier("update", "--defaults", "-d", "backends=[http]", cwd=elsewhere / "orders")

    assert "Orders is updated. Backends: http." in updated.output
    assert (elsewhere / "orders" / "src" / "orders" / "mine.py").exists()
    assert not (elsewhere / "orders" / "src" / "orders" / "backends" / "redis.py").exists()


def test_a_folder_is_enough_for_a_look_around(tmp_path: Path) -> None:
    """As the README says; the message tells what to do before others need updates."""
    run("git", "clone", "-q", template(), "copier-quart", cwd=tmp_path)
    assert '`uvx copier copy "$PWD/copier-quart" orders`' in README

    copied = copier("copy", "--defaults", tmp_path / "copier-quart", "orders", cwd=tmp_path)

    assert "Colleagues, CI and Renovate cannot update from there." in copied.output
    commit_all(tmp_path / "orders")
    copier("update", "--defaults", "-d", "backends=[]", cwd=tmp_path / "orders")
    assert answers_of(tmp_path / "orders")["backends"] == []


@pytest.mark.parametrize("tagged", [True, False])
def test_versions_are_tags(tagged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tag, a copy and an update take it in silence; without one, they take the newest."""
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    address = clone_from_address(tmp_path)
    served = tmp_path / "served" / "copier-quart.git"
    git("tag", "-d", *git("tag", cwd=served).split(), cwd=served)
    if tagged:
        git("tag", "v1.0.0", cwd=served)

    copied = copier("copy", "--defaults", "-d", "backends=[redis]", address, "orders", cwd=tmp_path)
    commit_all(tmp_path / "orders")
    updated = copier("update", "--defaults", "-d", "backends=[]", cwd=tmp_path / "orders")

    for outcome in (copied, updated):
        assert ("No git tags found" in outcome.output) is not tagged
    if tagged:
        assert answers_of(tmp_path / "orders")["_commit"] == "v1.0.0"
    assert b"redis" not in b"".join(files_of(tmp_path / "orders").values()).lower()
