"""What a copy holds, for every choice: the right files, nothing that was not chosen, no scars."""

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from html import unescape
from itertools import product
from pathlib import Path

import pytest
import yaml
from harness import (
    BACKENDS,
    LICENSES,
    MIXES,
    NOTHING,
    ROOT,
    SUBSETS,
    answers_of,
    files_of,
    generate,
    name_of,
    run,
    template,
)
from jinja2 import Environment, StrictUndefined
from pytest_copie.plugin import Copie
from ruff import find_ruff_bin  # type: ignore[import-untyped]

EVERY_SERVICE = """
    .copier-answers.yml .env.example .gitignore .pre-commit-config.yaml LICENSE README.md
    pyproject.toml renovate.json
    dev/__init__.py dev/__main__.py dev/lock.py dev/server.py dev/services.py dev/supervisor.py
    dev/serve.py dev/watchdog.py src/orders/blocking.py
    src/orders/__init__.py src/orders/app.py src/orders/backends/__init__.py
    src/orders/backends/base.py src/orders/features.py src/orders/health.py src/orders/logs.py
    src/orders/problems.py src/orders/security.py src/orders/serving.py src/orders/settings.py
    src/orders/validation.py
    tests/blocking_calls.py tests/test_blocking.py
    tests/conftest.py tests/test_app.py tests/test_health.py tests/test_logs.py
    tests/test_problems.py tests/test_security.py tests/test_serving.py tests/test_settings.py
    tests/test_validation.py
"""
ANY_BACKEND = "dev/launch.py tests/test_backends.py tests/test_faults.py"
ANY_DATABASE = "dev/binaries.py"
EACH_BACKEND = {
    "postgres": """
        alembic.ini dev/postgres.py migrations/env.py migrations/script.py.mako
        src/orders/backends/postgres.py tests/test_postgres.py
    """,
    "mongo": "dev/mongo.py src/orders/backends/mongo.py tests/test_mongo.py",
    "redis": "dev/redis.py src/orders/backends/redis.py tests/test_redis.py",
    "http": "dev/upstream.py src/orders/backends/http.py tests/test_http.py",
}
EXAMPLES = """
    src/orders/examples/__init__.py src/orders/examples/static/welcome.css
    src/orders/examples/static/welcome.js src/orders/examples/templates/welcome.html
    src/orders/examples/welcome.py tests/examples/test_fuzz.py tests/examples/test_welcome.py
"""
ANY_EXAMPLE = "src/orders/examples/overview.py tests/examples/test_overview.py"
EACH_EXAMPLE = {
    "postgres": """
        migrations/versions/0001_notes.py src/orders/examples/notes.py tests/examples/test_notes.py
    """,
    "mongo": "src/orders/examples/events.py tests/examples/test_events.py",
    "redis": """
        src/orders/examples/cache.py src/orders/examples/counters.py tests/examples/test_cache.py
        tests/examples/test_counters.py
    """,
    "http": "src/orders/examples/weather.py tests/examples/test_weather.py",
}

EACH_FEATURE = {
    "openapi": """
        src/orders/openapi/__init__.py src/orders/openapi/description.py
        src/orders/openapi/static/docs.css src/orders/openapi/static/docs.html
        src/orders/openapi/static/docs.js tests/test_openapi.py
    """,
    "container": ".dockerignore Dockerfile compose.yaml",
    "tracing": "",
}
"""What a feature adds, besides the examples."""

EACH_CI = {
    "github": ".github/workflows/ci.yml .github/workflows/template-update.yml",
    "gitlab": ".gitlab-ci.yml",
    "none": "",
}
CONTAINER_ON_GITHUB = ".github/workflows/container.yml"

TRACED = """
    src/orders/tracing/__init__.py src/orders/tracing/discreet.py src/orders/tracing/loop.py
    src/orders/tracing/server.py src/orders/tracing/telemetry.py tests/tracing/in_memory.py
    tests/tracing/test_export.py tests/tracing/test_server_spans.py
"""
TRACED_DATABASE = "src/orders/tracing/pools.py tests/tracing/test_pools.py"
TRACED_BACKEND = "src/orders/tracing/{0}.py tests/tracing/test_{0}_spans.py"
TRACED_OVERVIEW = "tests/tracing/test_overview_spans.py"

WORDS = {
    "postgres": "postgres|asyncpg|alembic|sqlalchemy|database_url|migration|notes",
    "mongo": "mongo|bson|fiftyone|pycurl|events",
    "redis": "redis|valkey|counters|lua",
    "http": "aiohttp|upstream|stamina|weather",
}
"""What only a service with the backend may say."""

JUSTIFIED = {
    # The word for asyncio's own events, the browser's, and a span's.
    "events": (
        "dev/supervisor.py",
        "dev/__main__.py",
        "src/orders/tracing/discreet.py",
        "tests/tracing/test_server_spans.py",
    ),
}


def expected_files(backends: Sequence[str], features: Sequence[str], ci: str) -> set[str]:
    """Return the files that a service with these answers consists of."""
    files = EVERY_SERVICE.split()
    if backends:
        files += ANY_BACKEND.split()
    if set(backends) - {"http"}:
        files += ANY_DATABASE.split()
    for backend in backends:
        files += EACH_BACKEND[backend].split()
    for feature in set(features) - {"examples"}:
        files += EACH_FEATURE[feature].split()
    files += EACH_CI[ci].split()
    if ci == "github" and "container" in features:
        files.append(CONTAINER_ON_GITHUB)
    if "examples" in features:
        files += EXAMPLES.split()
        if backends:
            files += ANY_EXAMPLE.split()
        for backend in backends:
            files += EACH_EXAMPLE[backend].split()
    if "tracing" in features:
        files += traced_files(backends, features)
    return set(files)


def traced_files(backends: Sequence[str], features: Sequence[str]) -> list[str]:
    """Return the files that `tracing` adds for these backends and other features."""
    files = TRACED.split()
    for backend in backends:
        files += TRACED_BACKEND.format(backend).split()
    if set(backends) - {"http"}:
        files += TRACED_DATABASE.split()
    if backends and "examples" in features:
        files += TRACED_OVERVIEW.split()
    return files


CHOICES = [
    pytest.param(
        *(subset, mix.features, mix.ci, mix.license),
        id=f"{name_of(subset)}-with-{mix}",
        # The default and nothing at all are looked at in every run.
        marks=[] if mix in {MIXES[0], NOTHING} else pytest.mark.slow,
    )
    for subset, mix in product(SUBSETS, MIXES)
]
each_choice = pytest.mark.parametrize(("backends", "features", "ci", "license_"), CHOICES)


@each_choice
def test_every_choice(
    backends: list[str], features: Sequence[str], ci: str, license_: str, tmp_path: Path
) -> None:
    """All static properties of one choice, in one test, as rendering costs the most."""
    project = generate(
        tmp_path / "orders", backends, features=list(features), ci=ci, license=license_
    )
    files = files_of(project)

    assert set(files) == expected_files(backends, features, ci)
    texts = {name: content.decode() for name, content in files.items()}
    for backend in set(BACKENDS) - set(backends):
        for name, text in texts.items():
            if name != "LICENSE":
                assert_not_named(WORDS[backend], name, text)
    if "openapi" not in features:
        for name, text in texts.items():
            if name != ".copier-answers.yml":
                assert "openapi" not in text.lower(), name
    for name, text in texts.items():
        assert_clean(name, text)
        assert_parses(name, text)
        assert_unmistakable(name, text)
    assert_documented(project, texts)
    assert_formatted(project)


def assert_formatted(project: Path) -> None:
    """Check that the service's own linter and formatter have nothing to say."""
    run(find_ruff_bin(), "check", "--no-cache", cwd=project)
    run(find_ruff_bin(), "format", "--check", "--no-cache", cwd=project)


def assert_not_named(words: str, name: str, text: str) -> None:
    """Check that a file does not speak of a backend that was not chosen."""
    for found in re.finditer(rf"(?i)\b\w*(?:{words})\w*", name + "\n" + text):
        line = text.count("\n", 0, max(found.start() - len(name) - 1, 0)) + 1
        assert name in JUSTIFIED.get(found[0].lower(), ()), f"{name}:{line} names {found[0]}"


def assert_clean(name: str, text: str) -> None:
    """Check that conditions have left no trace."""
    assert text.endswith("\n"), f"{name} does not end with a newline"
    assert not text.endswith("\n\n"), f"{name} ends with blank lines"
    assert not text.startswith("\n"), f"{name} begins with a blank line"
    assert not re.search(r"[ \t]\n", text), f"{name} has spaces at the end of a line"
    blank = r"\n{4}" if name.endswith((".py", ".mako", ".md")) else r"\n{3}"
    assert not re.search(blank, text), f"{name} has too many blank lines in a row"
    if not name.endswith((".html", ".mako", ".css")) and not name.startswith(".github/"):
        assert not re.search(r"\{[{%#] | [}%#]\}", text), f"{name} has Jinja left"


def assert_unmistakable(name: str, text: str) -> None:
    """Check that no place in a file has the same surroundings as another one.

    An update finds the place of a user's change by the three lines above and the three below it.
    Where these stand twice, the change could silently move, for example to another job.
    """
    lines = text.splitlines()
    places = Counter(tuple(lines[at : at + 6]) for at in range(len(lines) - 5))
    assert [lines for lines, times in places.items() if times > 1] == [], name


def assert_parses(name: str, text: str) -> None:
    """Check that a file is what its name says."""
    match Path(name).suffix:
        case ".py":
            ast.parse(text)
        case ".toml":
            tomllib.loads(text)
        case ".yml" | ".yaml":
            yaml.safe_load(text)
        case ".json":
            json.loads(text)


def assert_documented(project: Path, texts: dict[str, str]) -> None:
    """Check that README and .env.example list exactly the variables that the code reads."""
    variables: dict[str, str | None] = {}
    for path in sorted((project / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and "BaseSettings" in ast.unparse(node):
                variables |= variables_of(node)
    documented = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", texts["README.md"], re.MULTILINE)
    examples = re.findall(r"^# ([A-Z_]+)=(.*)$", texts[".env.example"], re.MULTILINE)

    assert {name for name, _ in documented} == set(variables)
    assert {name for name, _ in examples} == set(variables)
    for table in (documented, examples):
        for name, value in table:
            if (default := variables[name]) is not None:
                shown = re.sub("all|off", "", value.strip("`"))
                assert shown == default or float(shown) == float(default), name


def variables_of(settings: ast.ClassDef) -> dict[str, str | None]:
    """Return the variables of a settings class, with their defaults where they have one."""
    prefix = re.search(r"env_prefix='(\w+)'", ast.unparse(settings))
    variables: dict[str, str | None] = {}
    for field in settings.body:
        if not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        source = ast.unparse(field)
        if alias := re.search(r"validation_alias='(\w+)'", source):
            variables[alias[1]] = None
            continue
        name = (prefix[1] if prefix else "") + ast.unparse(field.target).upper()
        default = eval(ast.unparse(field.value), {"__builtins__": {}})  # noqa: S307 - a constant
        variables[name] = "" if default is None else str(default)
    return variables


NAMES = ["A", "X" * 30, "Orders and Invoices v2.1", "my-service"]
DESCRIPTIONS = [
    "A Quart service.",
    'Says "hello", and \\ goodbye: 100 % {{ sure }} {% if %} {# no #}',
    "Größe — 大きさ 🚀 '''\"\"\" # not a comment",
    "- [ ] * & ! | > ' \" % @ `",
]
AUTHORS = [
    ("", ""),
    ('Zoë "Z" O\'Hara \\', ""),
    ("", "a.b+c@example.org"),
    ("Zoë", "zoe@example.org"),
]
LICENSE_BEGINS = {
    "MIT": "MIT License\n\nCopyright (c) {holder}\n",
    "Apache-2.0": "Apache License\n",
    "BSD-3-Clause": "BSD 3-Clause License\n\nCopyright (c) {holder}\n",
    "Proprietary": "Copyright (c) {holder}\n",
}

PAIRS = [
    # For each description and author: which name and which licence, by two orthogonal squares.
    (NAMES[name], DESCRIPTIONS[description], AUTHORS[author], LICENSES[license_])
    for description, squares in enumerate(
        [("0123", "0123"), ("1032", "2301"), ("2301", "3210"), ("3210", "1032")]
    )
    for author, (name, license_) in enumerate(zip(*(map(int, row) for row in squares), strict=True))
]
"""Each value of each of these answers, with each value of every other."""


@pytest.mark.parametrize(
    ("project_name", "description", "author", "license_"),
    PAIRS,
    ids=(f"{name[:6]}-{license_}-{number}" for number, (name, _, _, license_) in enumerate(PAIRS)),
)
def test_answers_arrive_intact(
    project_name: str, description: str, author: tuple[str, str], license_: str, copie: Copie
) -> None:
    """Names of all lengths, and text that could end a string or a comment early."""
    author_name, author_email = author
    answers = {
        "project_name": project_name,
        "description": description,
        "author_name": author_name,
        "author_email": author_email,
        "license": license_,
    }

    result = copie.copy(answers, template_dir=template())

    assert result.exception is None
    assert result.project_dir is not None
    assert answers_of(result.project_dir) | answers == answers_of(result.project_dir)
    texts = {name: content.decode() for name, content in files_of(result.project_dir).items()}
    metadata = tomllib.loads(texts["pyproject.toml"])["project"]
    given = {"name": author_name, "email": author_email}
    given = {key: value for key, value in given.items() if value}
    assert metadata["description"] == description
    assert metadata.get("authors", []) == ([given] if given else [])
    assert metadata["license"] == license_.replace("Proprietary", "LicenseRef-Proprietary")
    assert texts["README.md"].startswith(f"# {project_name}\n\n{description}\n")
    beginning = LICENSE_BEGINS[license_].format(
        holder=author_name or f"the authors of {project_name}"
    )
    assert texts["LICENSE"].lstrip().startswith(beginning)
    assert_clean("LICENSE", texts["LICENSE"])
    for name, text in texts.items():
        assert_parses(name, text)
    assert_formatted(result.project_dir)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_the_welcome_page_shows_the_description(description: str, tmp_path: Path) -> None:
    """The page is a template itself: what stands in it is rendered once more, while serving."""
    project = generate(tmp_path / "orders", description=description)
    page = project / "src" / "orders" / "examples" / "templates" / "welcome.html"

    serving = Environment(autoescape=True, undefined=StrictUndefined)
    shown = serving.from_string(page.read_text()).render(backends={})

    assert f"<p>{description}</p>" in unescape(shown)


def test_only_what_holds_an_answer_is_a_template() -> None:
    """A file without values and conditions has its plain name, so that every editor knows it."""
    templates = [*(ROOT / "template").rglob("*.jinja")]

    assert templates
    assert [file for file in templates if not re.search(r"{[{%]", file.read_text())] == []
