"""What a copy holds, for every choice: the right files, nothing that was not chosen, no scars."""

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import pytest
import yaml
from harness import (
    DATABASES,
    LICENSES,
    MIXES,
    MODELED,
    MODELS,
    NOTHING,
    ROOT,
    SUBSETS,
    all_features,
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
    .copier-answers.yml .env.example .gitignore .pre-commit-config.yaml AGENTS.md LICENSE README.md
    pyproject.toml renovate.json
    dev/__init__.py dev/__main__.py dev/app.py
    src/orders/__init__.py src/orders/app.py src/orders/settings.py
    src/orders/blueprints/__init__.py
    src/orders/core/__init__.py src/orders/core/api.py src/orders/core/blocking.py
    src/orders/core/errors.py src/orders/core/health.py src/orders/core/logs.py
    src/orders/core/serving.py src/orders/core/settings.py
    tests/conftest.py tests/test_fuzz.py tests/test_health.py
"""
ANY_BACKEND = "src/orders/backends/__init__.py src/orders/backends/base.py"
EACH_BACKEND = {
    "postgres": """
        dev/postgres.py migrations/env.py migrations/script.py.mako
        src/orders/backends/postgres.py tests/test_postgres.py
    """,
    "mongo": "dev/mongo.py src/orders/backends/mongo.py tests/test_mongo.py",
    "redis": "dev/redis.py src/orders/backends/redis.py tests/test_redis.py",
    "http": "dev/upstream.py src/orders/backends/http.py tests/test_http.py",
}
EACH_EXAMPLE = {
    "postgres": """
        migrations/versions/0001_notes.py src/orders/blueprints/notes.py
        tests/blueprints/test_notes.py
    """,
    "mongo": "src/orders/blueprints/events.py tests/blueprints/test_events.py",
    "redis": "src/orders/blueprints/counters.py tests/blueprints/test_counters.py",
    "http": "src/orders/blueprints/weather.py tests/blueprints/test_weather.py",
}
EACH_FEATURE = {
    "examples": "src/orders/blueprints/examples.py",
    "container": ".dockerignore Dockerfile compose.yaml",
    "tracing": """
        src/orders/tracing/__init__.py src/orders/tracing/asgi.py src/orders/tracing/discreet.py
        src/orders/tracing/loop.py src/orders/tracing/telemetry.py
    """,
    "kubernetes": """
        deploy/base/config.env deploy/base/deployment.yaml deploy/base/kustomization.yaml
        deploy/base/network.yaml deploy/base/scaling.yaml deploy/base/service.yaml
        deploy/overlays/dev/kustomization.yaml deploy/overlays/production/kustomization.yaml
    """,
    "jobs": """
        src/orders/jobs/__init__.py src/orders/jobs/__main__.py src/orders/jobs/queue.py
        src/orders/jobs/status.py src/orders/jobs/worker.py tests/test_jobs.py
    """,
    "auth": "dev/issuer.py src/orders/auth.py src/orders/backends/issuer.py tests/test_auth.py",
}
TOGETHER = {
    ("models",): "src/orders/models/__init__.py tests/test_models.py",
    ("models", "postgres"): """
        src/orders/models/base.py src/orders/backends/postgres_models.py
    """,
    ("models", "mongo"): "src/orders/backends/mongo_models.py",
    ("models", "postgres", "examples"): "src/orders/models/notes.py",
    ("models", "mongo", "examples"): "src/orders/models/events.py",
    ("jobs", "examples"): """
        src/orders/blueprints/visits.py src/orders/jobs/visits.py tests/blueprints/test_visits.py
    """,
    ("jobs", "tracing"): "src/orders/tracing/jobs.py",
    ("kubernetes", "postgres"): "deploy/base/migrate.yaml",
    ("kubernetes", "jobs"): "deploy/base/worker.yaml",
}
"""What several answers bring together."""

ANY_DATABASE = "dev/server.py"
TRACED_DATABASE = "src/orders/tracing/pools.py"
EACH_CI = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml", "none": ""}

WORDS = {
    "postgres": "postgres|asyncpg|alembic|sqlalchemy|database_url|migration|notes",
    "mongo": "mongo|bson|fiftyone|pycurl|events|beanie",
    "redis": "redis|valkey|counters|lua",
    "http": "aiohttp|upstream|weather",
    "jobs": "taskiq|jobs",
    "auth": "issuer|joserfc|jwt|bearer",
}
"""What only a service with the backend or the feature may say."""

CLUSTER = "kubernetes|kubectl|kustomize"
"""What only a service with the feature `kubernetes` may say."""

WORDS_OF_MODELS = r"beanie|models/|(?:postgres|mongo)_models|sqlalchemy\.orm|mapped|autogenerate"
"""What only a service with models may say."""

JUSTIFIED: dict[str, Sequence[str]] = {
    # A method of redis-py.
    "add_upstream_driver": ("src/orders/backends/redis.py",),
    # The client of the issuer.
    "aiohttp": (
        *("pyproject.toml", "dev/__init__.py", "dev/issuer.py"),
        "src/orders/backends/issuer.py",
    ),
    # Of HTTP: the server behind a gateway.
    "upstream": ("src/orders/core/errors.py",),
    # The events of a span.
    "events": ("src/orders/tracing/discreet.py",),
    # Parts of a workflow.
    "jobs": (".github/workflows/ci.yml",),
}
"""Files that may say such a word, because it means something else there."""


PAGES = ("src/orders/blueprints/examples.py", "src/orders/core/api.py")
"""Modules with Jinja of their own, for the pages that they show."""


def expected_files(backends: Sequence[str], features: Sequence[str], ci: str) -> set[str]:
    """Return the files that a service with these answers consists of."""
    files = f"{EVERY_SERVICE} {EACH_CI[ci]}".split()
    if backends or "auth" in features:
        files += ANY_BACKEND.split()
    for feature in features:
        files += EACH_FEATURE.get(feature, "").split()
    for backend in backends:
        files += EACH_BACKEND[backend].split()
        if "examples" in features:
            files += EACH_EXAMPLE[backend].split()
        if "tracing" in features:
            files.append(f"src/orders/tracing/{backend}.py")
    if set(backends) - {"http"}:
        files.append(ANY_DATABASE)
        if "tracing" in features:
            files.append(TRACED_DATABASE)
    for answers, more in TOGETHER.items():
        if {*answers} <= {*backends, *features}:
            files += more.split()
    return set(files)


CHOICES = [
    pytest.param(
        *(subset, mix.features, mix.ci, mix.license),
        id=f"{name_of(subset)}-with-{mix}",
        # The default and nothing at all are looked at in every run.
        marks=[] if mix in {MIXES[0], NOTHING} else pytest.mark.slow,
    )
    for subset, mix in [*product(SUBSETS, MIXES), *product(DATABASES, MODELED)]
    if set(mix.features) <= set(all_features(subset))
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
    for missing in WORDS.keys() - {*backends, *features}:
        for name, text in texts.items():
            if name != "LICENSE":
                assert_not_named(WORDS[missing], name, text)
    if MODELS not in features:
        for name, text in texts.items():
            assert_not_named(WORDS_OF_MODELS, name, text)
    for name, text in texts.items():
        if "kubernetes" not in features:
            assert_not_named(CLUSTER, name, text)
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
    if not name.endswith(".mako") and not name.startswith(".github/") and name not in PAGES:
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
            assert list(yaml.safe_load_all(text))
        case ".json":
            json.loads(text)


def assert_documented(project: Path, texts: dict[str, str]) -> None:
    """Check that .env.example lists the variables that the code reads, as the code describes them.

    A comment there is how the docstring begins, and a value is the default, if there is one.
    """
    variables = variables_of(project)
    line = re.compile(r"^# ([A-Z_]+)=(\S*)(?: +# (.*))?$", re.MULTILINE)
    examples = line.findall(texts[".env.example"])

    assert sorted(name for name, _, _ in examples) == sorted(variables)
    for name, value, comment in examples:
        default, docstring = variables[name]
        assert docstring.startswith(comment), name
        assert not comment or comment.endswith("."), name
        if default not in {None, ""}:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert value in {shown, shown.lower()}, name


def variables_of(project: Path) -> dict[str, tuple[object, str]]:
    """Return the variables that a service reads, with their defaults and their docstrings."""
    classes: dict[str, ast.ClassDef] = {}
    for path in sorted((project / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and "Settings" in node.name and node.bases:
                classes[node.name] = node
    classes.pop("InvalidSettings")
    bases = {ast.unparse(base) for node in classes.values() for base in node.bases}
    variables: dict[str, tuple[object, str]] = {}
    # Without a pool, nobody inherits from the base of those that have one.
    for name in set(classes) - bases - {"PoolSettings"}:
        fields, prefix = fields_of(name, classes)
        for field, (default, docstring) in fields.items():
            variable = field if field.isupper() else f"{prefix}{field}".upper()
            variables[variable] = default, docstring
    return variables


def fields_of(
    name: str, classes: dict[str, ast.ClassDef]
) -> tuple[dict[str, tuple[object, str]], str]:
    """Return the fields of a settings class and of its bases, and the prefix of its variables."""
    if name not in classes:
        return {}, ""
    fields, prefix = fields_of(ast.unparse(classes[name].bases[0]), classes)
    body = classes[name].body
    for field, after in pairwise([*body, ast.Pass()]):
        source = ast.unparse(field)
        if found := re.search(r"env_prefix='(\w+)'", source):
            prefix = found[1]
        if not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        assert isinstance(after, ast.Expr), f"{source} needs a docstring"
        docstring = " ".join(ast.literal_eval(after.value).split())
        if alias := re.search(r"validation_alias='(\w+)'", source):
            fields[alias[1]] = None, docstring
        else:
            default = eval(ast.unparse(field.value), {"__builtins__": {}})  # noqa: S307 - a constant
            fields[ast.unparse(field.target)] = default, docstring
    return fields, prefix


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


def test_the_data_of_the_backends_matches_the_choices() -> None:
    """Each choice has its data, and each file of a backend belongs to a choice."""
    questions = yaml.safe_load((ROOT / "copier.yml").read_text())
    source = (ROOT / "includes" / "backends.jinja").read_text()
    data = Environment(undefined=StrictUndefined, autoescape=True).from_string(source)
    answers = {"backends": [], "features": [], "package_name": "orders", "project_slug": "orders"}
    entries = data.make_module(answers).BACKENDS  # type: ignore[attr-defined]

    names = list(questions["backends"]["choices"].values())
    assert [entry["name"] for entry in entries] == names
    assert len({tuple(entry) for entry in entries}) == 1, "each entry has the same keys"
    servers = {entry["name"] for entry in entries if entry["servers"]}
    assert {path.stem for path in (ROOT / "includes" / "compose").iterdir()} == servers
    features = set(questions["features"]["choices"].values())
    assert {path.stem for path in (ROOT / "includes" / "readme").iterdir()} <= {*names, *features}


def test_only_what_holds_an_answer_is_a_template() -> None:
    """A file without values and conditions has its plain name, so that every editor knows it."""
    templates = [*(ROOT / "template").rglob("*.jinja")]

    assert templates
    assert [file for file in templates if not re.search(r"{[{%]", file.read_text())] == []
