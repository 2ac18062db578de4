"""The questions, answered by hand in a real terminal."""

from pathlib import Path

import pexpect
import pyte
import pytest
from harness import answers_of, files_of, generate
from messages import again, shown_command
from terminal import CLEAR, DOWN, ENTER, SPACE, copier, copier_copy

pytestmark = pytest.mark.slow


@pytest.fixture
def terminal(tmp_path: Path) -> "pexpect.spawn[str]":
    """Return `copier copy` waiting for answers."""
    return copier_copy(tmp_path)


QUESTIONS = (
    "What does it do",
    "Which backends",
    "What else",
    "Where do you run CI",
    "Which licence",
    "Author's name",
    "Author's e-mail",
)
"""What is asked after the name."""


def test_backends_are_selected_with_the_space_bar(
    terminal: "pexpect.spawn[str]", tmp_path: Path
) -> None:
    """All are selected at first; what is left out is deselected."""
    terminal.expect("What is the name of the service")
    terminal.expect("Order Service")
    terminal.send("Orders" + ENTER)
    terminal.expect("What does it do")
    terminal.send(ENTER)
    terminal.expect(r"Which backends does it use\? \(All are selected\. Space deselects one\)")
    terminal.expect("Outbound HTTP")
    terminal.send(SPACE + DOWN + SPACE + ENTER)
    for question in QUESTIONS[2:]:
        terminal.expect(question)
        terminal.send(ENTER)
    terminal.expect("Orders is ready. Backends: redis, http")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert answers_of(tmp_path / "orders")["backends"] == ["redis", "http"]
    assert not (tmp_path / "orders" / "alembic.ini").exists()
    again(shown_command(str(terminal.before).replace("\r\n", "\n")), tmp_path / "again")
    assert files_of(tmp_path / "again" / "orders") == files_of(tmp_path / "orders")


def test_an_update_asks_for_the_backends_only(tmp_path: Path) -> None:
    """`--ask backends` shows the present choice, and what Space does to it."""
    project = generate(tmp_path / "orders", ["redis"], commit=True)
    terminal = copier("update", "--defaults", "--ask", "backends", cwd=project)
    terminal.expect_exact("git worktree add --detach ../preview")
    terminal.expect(r"Which backends does it use\? \(Space changes one\)")
    terminal.expect("Outbound HTTP")
    terminal.send(SPACE + DOWN + DOWN + DOWN + SPACE + ENTER)
    terminal.expect("Orders is updated. Backends: postgres, redis, http")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    answers = answers_of(project)
    assert answers["backends"] == ["postgres", "redis", "http"]
    fresh = generate(tmp_path / "fresh", ["postgres", "redis", "http"])
    assert files_of(project) == files_of(fresh)


def test_a_wrong_name_can_be_corrected(tmp_path: Path) -> None:
    """The message comes before anything else is asked, and can be read in a narrow terminal."""
    terminal = copier_copy(tmp_path, columns=80)
    screen = pyte.Screen(80, 40)
    stream = pyte.Stream(screen)

    def expect(text: str) -> None:
        while text not in "\n".join(screen.display):
            stream.feed(terminal.read_nonblocking(1000, timeout=60))

    expect("Order Service")
    terminal.send(ENTER)
    expect("Enter a name, like Order Service.")
    terminal.send("a;b" + ENTER)
    expect("Use A-Z, 0-9, space, dot, - or _.")
    terminal.send(CLEAR + "json" + ENTER)
    expect("Reserved in Python. Add a word.")
    terminal.send(CLEAR + "Json Store" + ENTER)
    for question in QUESTIONS:
        expect(question)
        terminal.send(ENTER)
    expect("Json Store is ready")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert answers_of(tmp_path / "orders")["project_name"] == "Json Store"


def test_leaving_half_way_leaves_nothing(terminal: "pexpect.spawn[str]", tmp_path: Path) -> None:
    """Ctrl-C at a question writes no file."""
    terminal.expect("What is the name of the service")
    terminal.send("Orders" + ENTER)
    terminal.expect("What does it do")
    terminal.sendcontrol("c")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus != 0
    assert not (tmp_path / "orders").exists()
