"""The guide: its commands print what it shows, its code runs, its figures and links are right."""

import ast
import html
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import reference
import yaml
from harness import (
    ROOT,
    Outcome,
    all_features,
    clone_from_address,
    generate,
    register,
    run,
    uv,
    words_of,
)
from snippets import FUNCTION, Block, blocks
from uv import find_uv_bin

pytestmark = pytest.mark.slow

SCALE = ROOT / "docs" / "scale.md"

PAGES = sorted((ROOT / "docs").rglob("*.md"))

ELSEWHERE = ("uv sync", "uv run")
"""Commands that take long. Other tests run them."""


def script(guide: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return a guide as a script, and each command with the lines that it must print."""
    lines: list[str] = ["set -e"]
    commands: list[tuple[str, list[str]]] = []
    for block in blocks(guide):
        if block.file:
            path = shlex.quote(block.file).replace("'~/", "~/'").replace("~/", '"$HOME"/')
            lines += [f'mkdir -p "$(dirname {path})"', f"cat > {path} <<'END'", block.text + "END"]
        if block.language != "console":
            continue
        for line in block.text.splitlines():
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
    clone_from_address(folder)
    uvx = folder / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m copier "$@"\n')
    uvx.chmod(0o755)
    (uvx.parent / "uv").symlink_to(find_uv_bin())
    (folder / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.org\n")
    environment = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "PATH": f"{uvx.parent}:{os.environ['PATH']}",
    }
    return run("bash", "-c", text, cwd=folder, env=environment, check=False)


def test_the_code_of_the_guides_runs(open_path: Path) -> None:
    """It works, has the types that it says, and passes the checks of a service.

    test_extend.py follows the tutorial, whose code belongs into the template. test_recipes.py has
    the servers that the recipes need.
    """
    project = generate(open_path / "orders", features=all_features())
    blueprints: list[str] = []
    calls: list[str] = []
    tests: list[str] = []
    written = 0
    for page in PAGES:
        for number, block in enumerate(code_of(page)):
            path = block.file or f"src/orders/blueprints/guide_{page.stem}_{number}.py"
            (project / path).write_text(block.text)
            module = Path(path).stem
            if "\nblueprint = " in block.text:
                blueprints.append(module)
            if block.file is None:
                calls += [f"{module}.{name}" for name in FUNCTION.findall(block.text)]
            if path.startswith("tests/"):
                tests.append(path)
                written += len(TEST.findall(block.text))
    register(project, *blueprints)
    modules = ", ".join(sorted({call.partition(".")[0] for call in calls}))
    guide_test = GUIDE_TEST.format(modules=modules, calls=", ".join(calls))
    (project / "tests" / "test_guide.py").write_text(guide_test)

    for page in PAGES:
        for packages in ADDED.findall(page.read_text()):
            uv("add", "--quiet", *packages.split(), cwd=project)

    tested = uv("run", "--quiet", "pytest", "-q", "tests/test_guide.py", *tests, cwd=project)
    uv("run", "mypy", "src", *tests, cwd=project)
    uv("run", "ruff", "check", "src", "migrations", *tests, cwd=project)
    uv("run", "ruff", "format", "--check", "src", "migrations", *tests, cwd=project)

    assert len(calls) >= 8
    assert len(tests) == len(list((ROOT / "docs" / "working").glob("*.md"))) - 1
    assert f"{len(calls) + written} passed" in tested.output


def code_of(page: Path) -> Iterator[Block]:
    """Yield the Python of a page, unless a test of its own runs it.

    test_umongo.py follows the roads from μMongo, which need packages of their own.
    """
    if page.name not in {"extend.md", "recipes.md"}:
        text = re.sub(r"^## From μMongo$.*?(?=^## )", "", page.read_text(), flags=MULTILINE_DOTALL)
        yield from blocks(text, "python")


MULTILINE_DOTALL = re.MULTILINE | re.DOTALL


ADDED = re.compile(r"^uv add (.+)$", re.MULTILINE)
"""The packages that a page adds."""

TEST = re.compile(r"^(?:async )?def test_", re.MULTILINE)

GUIDE_TEST = """
import pytest
from orders.blueprints import {modules}


@pytest.mark.parametrize("call", [{calls}])
async def test_call(app, call):
    async with app.test_app(), app.app_context():
        assert await call()
"""


def test_the_guide_has_the_log_configuration_that_is_tested() -> None:
    """The one for uvicorn with several workers."""
    tested = (ROOT / "tests" / "service" / "test_process.py").read_text()
    literal = re.search(r"^LOG_CONFIG = ({.*?^})", tested, re.MULTILINE | re.DOTALL)
    shown = re.search(r'```json\n(\{\s+"version": 1.*?)```', SCALE.read_text(), re.DOTALL)
    assert literal
    assert shown
    assert json.loads(shown[1]) == ast.literal_eval(literal[1])


def test_the_claims_about_security_have_tests() -> None:
    """Each test that the page names is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())

    assert len(named) > 25
    for file, test in named:
        places = [ROOT / file, ROOT / "template" / file, ROOT / "template" / f"{file}.jinja"]
        assert any(f"def {test}(" in place.read_text() for place in places if place.exists()), test


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    """`make docs` writes it from the sources."""
    project = generate(tmp_path / "orders", features=all_features())

    assert reference.text(project) == reference.PAGE.read_text(), "make docs"


def test_the_picture_shows_the_questions_of_today() -> None:
    """It has the words of `copier.yml`. `make pictures` takes it anew."""
    backends = yaml.safe_load((ROOT / "copier.yml").read_text())["backends"]
    picture = html.unescape((ROOT / "docs" / "images" / "questions.svg").read_text())
    shown = picture.replace("\N{NO-BREAK SPACE}", " ")

    for words in (words_of(backends), *backends["choices"]):
        assert words in shown, "make pictures"


ALLOWED = {"200", "201", "502", "503", "504"}
"""Statuses while a backend is away, as the page says."""


def test_the_figures_are_those_of_the_last_runs() -> None:
    """`make drill` and `make bench` have written them down; README and guide quote them."""
    readme = (ROOT / "README.md").read_text()
    evidence = (ROOT / "docs" / "evidence.md").read_text()
    results = ROOT / "benchmarks" / "results"
    drill = json.loads((results / "drill.json").read_text())
    faults = [each for each in drill["phases"] if each["name"].endswith(("killed", "frozen"))]
    bench = json.loads((results / "serving.json").read_text())
    rates = {
        (each["endpoint"], each["contender"], each["connections"]): median(
            run["rate"] for run in each["runs"]
        )
        for each in bench["samples"]
    }
    threads = [
        rate
        for (endpoint, name, many), rate in rates.items()
        if endpoint == "upstream" and "flask" in name and many == 500
    ]
    ratios = bench["ratios"]

    assert not any(phase["lost"] for phase in drill["phases"])
    assert not {status for fault in faults for status in fault["statuses"]} - ALLOWED
    shared = (
        f"{sum(fault['requests'] for fault in faults):,} requests",
        f"recovered after {max(fault['recovery'] for fault in faults):.2f} s",
        f"{rates['upstream', 'service', 500]:,.0f} requests/s",
        f"threads: {max(threads):.0f}",
    )
    for figure in shared:
        assert figure in readme
    for figure in (
        *shared,
        f"answered {rates['postgres', 'service', 50]:,.0f} requests/s",
        f"with 50 threads {rates['postgres', 'flask-50', 50]:,.0f}",
        f"{ratios['a row, service to quart']['ratio']} of plain Quart",
        f"{ratios['a row, service to fastapi']['ratio']} of FastAPI",
    ):
        assert figure in " ".join(evidence.split())


def test_the_figures_of_scale_are_those_of_the_last_run() -> None:
    """`make bench SCALE=1` has written them down: no request was lost."""
    page = SCALE.read_text()
    result = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())
    gentle, rough = result["rollouts"]

    for each in result["processes"]:
        rates = [each["endpoints"][name]["rate"] for name in ("json", "postgres", "upstream")]
        cells = [each["processes"], *(f"{rate:,}" for rate in rates)]
        row = [*map(str, cells), str(each["postgresql_connections"])]
        assert f"| {' | '.join(row)} |" in page
    for rollout in (gentle, rough):
        assert f"| {rollout['requests']:,} | {rollout['replaced']} | {rollout['lost']:,} |" in page
    assert gentle["requests"] >= 5000
    assert gentle["lost"] == 0
    assert rough["lost"] > 0


def test_the_guides_build_as_a_site(tmp_path: Path) -> None:
    """Each page is in the navigation, and every link between pages works."""
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
