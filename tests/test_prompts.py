"""The questions, answered by hand in a real terminal."""

from pathlib import Path

import pexpect
import pytest
from harness import answers_of
from terminal import CLEAR, DOWN, ENTER, SPACE, copier_copy

pytestmark = pytest.mark.slow


@pytest.fixture
def terminal(tmp_path: Path) -> "pexpect.spawn[str]":
    """Return `copier copy` waiting for answers."""
    return copier_copy(tmp_path)


def test_backends_are_selected_with_the_space_bar(
    terminal: "pexpect.spawn[str]", tmp_path: Path
) -> None:
    """All are selected at first; what is left out is deselected."""
    terminal.expect("What is the service called")
    terminal.send(CLEAR + "Orders" + ENTER)
    terminal.expect("What does it do")
    terminal.send(ENTER)
    terminal.expect(r"Which backends does it use\? \(Space selects, Enter confirms")
    terminal.expect("Outbound HTTP")
    terminal.send(SPACE + DOWN + SPACE + ENTER)
    terminal.expect("What else should it contain")
    terminal.send(ENTER)
    for question in (
        "continuous integration run",
        "Under which licence",
        "Who is its author",
        "e-mail address",
    ):
        terminal.expect(question)
        terminal.send(ENTER)
    terminal.expect("Orders is ready, with redis, http")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert answers_of(tmp_path / "orders")["backends"] == ["redis", "http"]
    assert not (tmp_path / "orders" / "alembic.ini").exists()


def test_a_wrong_name_can_be_corrected(terminal: "pexpect.spawn[str]", tmp_path: Path) -> None:
    """The message comes before anything else is asked."""
    terminal.expect("What is the service called")
    terminal.send(CLEAR + "json" + ENTER)
    terminal.expect('would give the Python package "json"')
    terminal.send(CLEAR + "Json Store" + ENTER)
    for question in (
        "What does it do",
        "Which backends",
        "What else",
        "continuous",
        "Under which",
        "Who is its",
    ):
        terminal.expect(question)
        terminal.send(ENTER)
    terminal.expect("e-mail address")
    terminal.send(ENTER)
    terminal.expect("Json Store is ready")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert answers_of(tmp_path / "orders")["project_name"] == "Json Store"


def test_leaving_half_way_leaves_nothing(terminal: "pexpect.spawn[str]", tmp_path: Path) -> None:
    """Ctrl-C at a question writes no file."""
    terminal.expect("What is the service called")
    terminal.send("Orders" + ENTER)
    terminal.expect("What does it do")
    terminal.sendcontrol("c")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus != 0
    assert not (tmp_path / "orders").exists()
