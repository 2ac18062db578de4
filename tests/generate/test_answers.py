"""Wrong and hostile answers: each gives a correct project or one clear sentence, and no file."""

import keyword
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import (
    ROOT,
    all_features,
    answers_of,
    commit_all,
    copier,
    files_of,
    generate,
    generate_with,
    git,
    run,
    template,
    uv,
)
from messages import again, shown_command

LETTERS = "Use A-Z, 0-9, space, dot, - or _."
FIRST = "Start with a letter from A to Z."
RESERVED = "Reserved in Python. Add a word."
EMAIL = "Use a form like name@example.org."
PLAIN = "Use one line of plain text."

WRONG: list[tuple[str, object, str]] = [
    ("project_name", "x/../y", LETTERS),
    ("project_name", 'x"y', LETTERS),
    ("project_name", "demo\n", LETTERS),
    ("project_name", "", "Enter a name, like Order Service."),
    ("project_name", "../x", FIRST),
    ("project_name", "1st", FIRST),
    ("project_name", "Größe", LETTERS),
    ("project_name", "-rf", FIRST),
    ("project_name", "orders-", "End with a letter or a digit."),
    ("project_name", "x" * 300, "Use at most 30 characters."),
    ("project_name", "class", RESERVED),
    ("project_name", "json", RESERVED),
    ("project_name", "Redis", RESERVED),
    ("project_name", "quart", RESERVED),
    ("project_name", "Pydantic Settings", RESERVED),
    ("description", "two\nlines", PLAIN),
    ("description", "bell \a", PLAIN),
    ("description", "x" * 201, "Use at most 200 characters."),
    ("description", " ", "Describe it in a few words."),
    ("author_name", "two\nlines", PLAIN),
    ("author_name", "x" * 101, "Use at most 100 characters."),
    ("author_name", " x", "Remove the spaces around it."),
    ("author_email", "nobody", EMAIL),
    ("author_email", 'a"b@example.org', EMAIL),
    ("author_email", "a@example.org\n", EMAIL),
    ("backends", ["mysql"], "'mysql' is not in"),
    ("backends", "redis", "Not a YAML list: 'redis'"),
    ("features", ["magic"], "'magic' is not in"),
    ("features", ["kubernetes"], "kubernetes needs container, too."),
    ("features", ["examples", "models"], "models needs postgres or mongo."),
    ("features", ["jobs"], "jobs needs redis."),
    ("license", "GPL", "license"),
    ("package_name", "other", "package_name follows from project_name. Leave it out."),
    ("project_slug", "other", "project_slug follows from project_name. Leave it out."),
    ("answers_format", 2, '"features" is required'),
]


@pytest.mark.parametrize(("question", "answer", "sentence"), WRONG)
def test_a_wrong_answer_is_refused_in_one_sentence(
    question: str, answer: object, sentence: str, tmp_path: Path
) -> None:
    """What is said is one line, and nothing is written."""
    with pytest.raises((ValueError, TypeError)) as refused:
        generate_with(tmp_path / "project", {"backends": [], question: answer})

    message = str(refused.value)
    assert sentence in message
    assert "\n" not in message
    if message.startswith("Validation error for question"):
        # A terminal shows one line of it.
        assert len(message) <= 80 or question in {"package_name", "project_slug"}
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("project_name=json", RESERVED),
        ("project_name=../x", FIRST),
        ("backends=[mysql]", "'mysql' is not in"),
        ("backends=redis", "Not a YAML list: 'redis'"),
    ],
)
def test_the_command_line_ends_with_the_sentence(
    answer: str, sentence: str, tmp_path: Path
) -> None:
    """Copier itself adds a traceback above it when an answer is given by an option."""
    outcome = copier(
        *("copy", "--defaults", "-d", answer, template(), "project"), cwd=tmp_path, check=False
    )

    assert outcome.code != 0
    assert sentence in outcome.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("project_name", "package"),
    [("A", "a"), ("my-service", "my_service"), ("Orders v2.1", "orders_v2_1"), ("a - b", "a_b")],
)
def test_a_name_becomes_a_package(project_name: str, package: str, tmp_path: Path) -> None:
    """Names of packages follow from names of projects."""
    project = generate(tmp_path / "project", [], project_name=project_name)

    assert (project / "src" / package / "app.py").exists()


def test_backends_are_recorded_in_one_order(tmp_path: Path) -> None:
    """However they are given, so that a project depends on the answers only."""
    project = generate(tmp_path / "project", ["http", "redis", "mongo"])

    assert answers_of(project)["backends"] == ["mongo", "redis", "http"]


def test_without_a_name_it_is_my_service(tmp_path: Path) -> None:
    """With --defaults. In a terminal, the name is empty at first: see test_prompts.py."""
    copier("copy", "--defaults", "-q", template(), "project", cwd=tmp_path)

    assert answers_of(tmp_path / "project")["project_name"] == "My Service"


def reserved_names() -> set[str]:
    """Return the names that packages of services may not have."""
    text = (ROOT / "includes" / "names.jinja").read_text()
    return set(text.partition("{% set reserved %}")[2].partition("{% endset %}")[0].split())


def test_names_of_python_are_reserved() -> None:
    """A package that shadows the standard library, or cannot be imported, helps nobody."""
    public = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    usable = {name for name in public if name == name.lower()}

    assert usable | {word.lower() for word in keyword.kwlist} <= reserved_names()


def test_a_copy_says_what_comes_next(tmp_path: Path) -> None:
    """The message names the backends, the commands, and why to commit first."""
    outcome = copier(
        *("copy", "--defaults", "-d", "backends=[redis, http]", template(), "orders"),
        cwd=tmp_path,
    )

    message = outcome.output[outcome.output.index("My Service is ready") :]
    for words in (
        "Backends: redis, http.",
        "uv run -m dev ",
        "uv run pytest ",
        "Commit before you change anything",
        "uv lock && git init -b main",
    ):
        assert words in message
    assert "postgres" not in message
    assert max(map(len, message.splitlines())) <= 80


@pytest.mark.parametrize(
    "answers",
    [
        [],
        ["backends=[http, redis]", "features=[]", "ci=none", "project_name=Order Service"],
        [r"""description=It's "5 $HOME" `id` \ {{ 7 * 7 }} ; # ü""", "author_name=O'Neill & Co"],
        ["description=- yes: [no]", "author_email=a+b@example.org", "license=Proprietary"],
    ],
)
def test_the_command_that_a_copy_shows_makes_the_same(answers: list[str], tmp_path: Path) -> None:
    """Whatever the answers are, a shell passes them on as they were."""
    options = [option for answer in answers for option in ("-d", answer)]
    target = "it's orders" if answers else "orders"
    outcome = copier("copy", "--defaults", *options, template(), target, cwd=tmp_path)

    again(shown_command(outcome.output), tmp_path / "again")

    assert files_of(tmp_path / "again" / target) == files_of(tmp_path / target)


def test_the_shown_command_does_not_take_what_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that was deleted in a prompt stays empty, even where settings have a default."""
    (tmp_path / "settings.yml").write_text("defaults: {author_name: Example Ltd, license: MIT}")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(tmp_path / "settings.yml"))
    options = ("--defaults", "-d", "author_name=", "-d", "license=BSD-3-Clause")
    outcome = copier("copy", *options, template(), "orders", cwd=tmp_path)

    again(shown_command(outcome.output), tmp_path / "again")

    assert files_of(tmp_path / "again" / "orders") == files_of(tmp_path / "orders")


def test_a_template_in_a_folder_is_warned_of(tmp_path: Path) -> None:
    """Others cannot update from a folder of this machine; they can from an address."""
    warning = "Colleagues, CI and Renovate cannot update from there."
    folder, address = str(template()), f"git+file://{template()}"

    from_folder = copier("copy", "--defaults", folder, "a", cwd=tmp_path)
    from_address = copier("copy", "--defaults", address, "b", cwd=tmp_path)

    assert f"\n{folder}\n{warning}" in from_folder.output
    assert "Set _src_path in\n.copier-answers.yml to the git address" in from_folder.output
    assert "cannot update" not in from_address.output


def test_the_recorded_folder_can_become_an_address(tmp_path: Path) -> None:
    """As the warning says; then an update comes from there."""
    project = generate(tmp_path / "orders", ["redis"], commit=True)
    answers = project / ".copier-answers.yml"
    address = f"git+file://{template()}"
    answers.write_text(answers.read_text().replace(str(template()), address))
    commit_all(project)

    copier("update", "--defaults", "-d", "backends=[http]", cwd=project)

    assert answers_of(project)["_src_path"] == address
    assert (project / "src" / "orders" / "backends" / "http.py").exists()


def test_no_trust_is_needed() -> None:
    """The template runs nothing on the machine of the one who uses it."""
    settings = (ROOT / "copier.yml").read_text()

    assert not re.search(r"^_(tasks|migrations|jinja_extensions):", settings, re.MULTILINE)


def broken(project: Path, old: str, new: str) -> Path:
    """Change the answers file of a project, and commit that."""
    answers = project / ".copier-answers.yml"
    text = answers.read_text()
    assert old in text
    answers.write_text(text.replace(old, new))
    commit_all(project, "Break the answers")
    return project


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backends:\n- postgres\n- redis\n", ""),
        ("- redis\n", "- rediss\n"),
        ("- postgres\n- redis\n", "- postgresql\n"),
        ("features:\n- examples\n", ""),
        ("features:\n- examples\n", "features:\n- example\n"),
    ],
    ids=["backends lost", "one misspelt", "renamed", "features lost", "feature misspelt"],
)
def test_a_lost_choice_stops_the_update(old: str, new: str, tmp_path: Path) -> None:
    """Without this guard, an update would delete the files of what is not chosen any more."""
    project = generate(
        tmp_path / "orders", ["postgres", "redis"], features=["examples"], commit=True
    )
    before = files_of(broken(project, old, new))

    outcome = copier("update", "--defaults", "--vcs-ref", "HEAD", cwd=project, check=False)

    question = "features" if "features" in old else "backends"
    assert outcome.code != 0
    assert re.search(f"\"{question}\" is required|choice for '{question}'", outcome.output)
    assert files_of(project) == before
    assert git("status", "--porcelain", cwd=project) == ""


def test_imported_packages_are_reserved(imported_packages: Sequence[str]) -> None:
    """A service named like a library that it imports would import itself."""
    assert set(imported_packages) <= reserved_names()


@pytest.mark.slow
def test_libraries_are_reserved(tmp_path: Path) -> None:
    """A project named like anything that it installs, on any system, could not be installed."""
    project = generate(tmp_path / "orders", features=all_features())
    uv("sync", "--quiet", cwd=project)
    lock = tomllib.loads((project / "uv.lock").read_text())
    importable = run(project / ".venv" / "bin" / "python", "-c", PRINT_IMPORTABLE, cwd=project)

    installed = {re.sub("[^a-z0-9]+", "_", package["name"]) for package in lock["package"]}
    names = {name.lower() for name in importable.output.split()} | installed
    packages = {name for name in names if re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name)}
    assert {"click", "pydantic_settings"} < packages
    assert sorted(packages - reserved_names() - {"orders"}) == []


PRINT_IMPORTABLE = "from importlib.metadata import *; print(*packages_distributions())"


@pytest.fixture
def imported_packages(tmp_path: Path) -> list[str]:
    """Return the packages that the sources of a service with everything import."""
    project = generate(tmp_path / "orders", features=all_features())
    found: set[str] = set()
    for path in [*project.rglob("*.py")]:
        found |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
    return sorted(found - {"orders", "the"})
