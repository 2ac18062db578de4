"""The configurator of the guide shows exactly what its command makes."""

import json
import random
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import configurator
import pytest
from configurator import ADDRESS, PACKAGE, SLUG, TITLE, Answers, Configurator
from harness import ROOT, clone_from_address, files_of, generate, run
from messages import again
from running import BROWSERS, find_browser
from uv import find_uv_bin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made() -> Configurator:
    """Return the template in pieces."""
    return Configurator()


@pytest.fixture(scope="module")
def data(made: Configurator) -> dict[str, Any]:
    """Return what the page gets."""
    return made.data()


def shown(data: Mapping[str, Any], chosen: Answers) -> dict[str, str]:
    """Return the files of a choice, as the page puts them together."""

    def look(part: Any) -> Any:
        if isinstance(part, int):
            return part
        inputs, values = part
        return values[" ".join(chosen[index] for index in inputs)]

    files = {}
    for file in data["files"]:
        if look(file["when"]):
            text = "".join(data["texts"][look(part)] for part in file["parts"])
            for mark, name in ((TITLE, "Two Words"), (PACKAGE, "two_words"), (SLUG, "two-words")):
                text = text.replace(mark, name)
            files[file["path"].replace(PACKAGE, "two_words")] = text
    return files


def choices(made: Configurator, number: int) -> Iterator[Answers]:
    """Yield everything, nothing, and random answers."""
    yield tuple(each.options[-1] for each in made.inputs)
    yield tuple(each.options[0] for each in made.inputs)
    while number:
        chosen = tuple(random.choice(each.options) for each in made.inputs)  # noqa: S311
        if not made.refusal(chosen):
            number -= 1
            yield chosen


def test_the_pieces_give_what_copier_gives(
    made: Configurator, data: dict[str, Any], tmp_path: Path
) -> None:
    """Everything, nothing, and other choices in each run."""
    for number, chosen in enumerate(choices(made, 10)):
        answers = made.answers(chosen)
        service = generate(tmp_path / str(number), project_name="Two Words", **answers)
        files = {name: content.decode() for name, content in files_of(service).items()}
        ours = shown(data, chosen)

        assert ours.keys() == files.keys(), answers
        for name in files.keys() - {".copier-answers.yml"}:
            assert ours[name] == files[name], (name, answers)
        mine = re.sub(f"{ADDRESS}|v[0-9.]+", "…", ours[".copier-answers.yml"])
        theirs = re.sub("(?<=^_commit: ).*", "…", files[".copier-answers.yml"], flags=re.MULTILINE)
        theirs = re.sub("(?<=^_src_path: ).*", "…", theirs, flags=re.MULTILINE)
        assert mine == theirs


def test_answers_that_copier_refuses_together_are_refused() -> None:
    """With its sentence, which depends on the answers in question only."""
    made = Configurator()
    made.config["backends"]["validator"] = ""
    made.config["features"]["validator"] = (
        '{% if "tracing" in features and "redis" not in backends %}'
        "\ntracing needs redis.\n{% endif %}"
    )
    numbers = [("backends", "redis"), ("features", "tracing")]

    found = made.depends(made.refusal)

    assert [made.inputs[index][:2] for index in found.inputs] == numbers
    assert found.values == {
        ("0", "0"): "",
        ("0", "1"): "tracing needs redis.",
        ("1", "0"): "",
        ("1", "1"): "",
    }
    without_redis = tuple(str(int(each.value == "tracing")) for each in made.inputs)
    assert made.has("README.md", without_redis) is None


def test_the_data_stay_small(data: dict[str, Any]) -> None:
    """Each text is there once, and a piece has few variants: about what a service with all has."""
    size = len(json.dumps(data, ensure_ascii=False))
    everything = sum(
        len(text) for text in shown(data, tuple(o[-1] for o in options(data))).values()
    )

    assert len(set(data["texts"])) == len(data["texts"])
    assert size < 2.5 * everything


def options(data: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the values of each input."""
    for question, value in data["inputs"]:
        values = [each for each, _ in data["questions"][question]["choices"]]
        yield tuple(values) if value is None else ("0", "1")


def test_the_page_shows_what_its_command_makes(
    data: dict[str, Any], workbench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a browser, without a server; `tools/browser_configurator.py` says what is looked at."""
    browser = find_browser()
    if browser is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    monkeypatch.setattr(Configurator, "data", lambda _: data)
    build(tmp_path / "site", monkeypatch)
    page = tmp_path / "site" / "site" / "configure" / "index.html"
    run(
        *(find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable),
        *("--with", "playwright>=1.65", "--with", "axe-playwright-python>=0.1.8"),
        *("python", ROOT / "tools" / "browser_configurator.py"),
        *(browser, page.as_uri(), tmp_path, "10"),
        cwd=tmp_path,
    )
    monkeypatch.setenv("TEMPLATE", clone_from_address(workbench))
    monkeypatch.setenv("COPIER_CACHE_DIR", str(workbench / "cache"))

    found = json.loads((tmp_path / "choices.json").read_text())
    assert len(found) == 10
    for number, choice in enumerate(found):
        again(choice["command"], workbench / str(number))
        (service,) = (workbench / str(number)).iterdir()
        files = {name: content.decode() for name, content in files_of(service).items()}
        lines = {name: text.count("\n") for name, text in files.items()}
        assert {path: text for path, _, text, _ in choice["files"]}.keys() == files.keys()
        assert choice["size"] == f"{len(files)} files and {sum(lines.values()):,} lines"
        for path, size, text, heading in choice["files"]:
            assert heading == path
            assert size == f"{lines[path]} line{'s' * (lines[path] != 1)}"
            if path != ".copier-answers.yml":
                assert text == files[path], path


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the guide as a site, with the data of today."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    monkeypatch.setattr(configurator, "DATA", folder / "docs" / "configurator" / "data.js")
    configurator.write()
    run(Path(sys.executable).with_name("zensical"), "build", "--strict", cwd=folder)
