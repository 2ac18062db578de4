"""What users have changed survives every change of answers, without a conflict."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import (
    BACKENDS,
    MODELS,
    SUBSETS,
    all_features,
    commit_all,
    copier,
    files_of,
    generate,
    git,
    name_of,
    register,
    update,
    uv,
)


def replace(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file; it must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} in {path}"
    path.write_text(text.replace(old, new, 1))


def append(path: Path, text: str) -> None:
    """Add to the end of a file."""
    path.write_text(path.read_text() + text)


def add_dependency(project: Path) -> None:
    """Run `uv add`, which sorts a sorted list and appends to an unsorted one."""
    uv("add", "--quiet", "--frozen", "orjson>=3.10", cwd=project)


def add_first_dependency(project: Path) -> None:
    """Run `uv add` with a name that sorts before all others."""
    uv("add", "--quiet", "--frozen", "aiofiles>=24.1", cwd=project)


def add_development_dependency(project: Path) -> None:
    """Run `uv add --dev`."""
    uv("add", "--quiet", "--frozen", "--dev", "types-aiofiles>=24.1", cwd=project)


def add_blueprint(project: Path) -> None:
    """Add a module, and list its blueprint where the comments say so."""
    module = project / "src" / "orders" / "blueprints" / "invoices.py"
    module.write_text(
        '"""Invoices."""\n\nfrom quart import Blueprint\n\n'
        'blueprint = Blueprint("invoices", __name__)\n\n\n'
        '@blueprint.get("/invoices")\n'
        "async def invoices() -> dict[str, int]:\n"
        '    return {"invoices": 0}\n'
    )
    register(project, "invoices")


def add_setting(project: Path) -> None:
    """Add a setting, and its variable where the others are."""
    append(
        project / "src" / "orders" / "settings.py",
        '\n    currency: str = "EUR"\n    """The currency of new invoices."""\n',
    )
    heading = "# The service, and what you add\n"
    replace(project / ".env.example", heading, f"{heading}# CURRENCY=EUR\n")


def add_test(project: Path) -> None:
    """Add a test."""
    test = project / "tests" / "blueprints" / "test_invoices.py"
    test.parent.mkdir(exist_ok=True)
    test.write_text(
        "from quart.typing import TestClientProtocol as Client\n\n\n"
        "async def test_invoices(client: Client) -> None:\n"
        '    response = await client.get("/invoices")\n'
        "    assert response.status_code == 200\n"
    )


def add_section(project: Path) -> None:
    """Add to the README, in the middle and at the end."""
    replace(project / "README.md", "## Production\n", "## Who to ask\n\nAda.\n\n## Production\n")
    append(project / "README.md", "\n## History\n\nA long one.\n")


def change_port(project: Path) -> None:
    """Change the port of production."""
    replace(project / "README.md", "--port 8000", "--port 9000")


def change_published_port(project: Path) -> None:
    """Change the port at which the container is reached."""
    replace(project / "compose.yaml", "${PORT:-8000}", "${PORT:-9000}")


def add_migration(project: Path) -> None:
    """Add a migration, which follows the one of the examples."""
    versions = project / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / "0002_invoices.py").write_text(MIGRATION)


MIGRATION = '''\
"""Invoices."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.execute("CREATE TABLE invoices (id bigint)")


def downgrade() -> None:
    """Take the change back."""
    op.execute("DROP TABLE invoices")
'''


def change_default(project: Path) -> None:
    """Change the default of a setting."""
    replace(
        project / "src" / "orders" / "core" / "settings.py",
        "request_timeout: Seconds = 15.0",
        "request_timeout: Seconds = 20.0",
    )


def add_compose_service(project: Path) -> None:
    """Add a server of one's own, and a variable for it."""
    compose = project / "compose.yaml"
    append(compose, "  mail:\n    image: axllent/mailpit:v1\n")
    # A worker has a variable of that name, too.
    place = "# What you add\n      LOG_FORMAT: json"
    replace(compose, place, f"{place}\n      MAIL_URL: smtp://mail:1025")


def add_variable(project: Path) -> None:
    """Add an environment variable at the end."""
    append(project / ".env.example", "\n# FEATURE_FLAGS=none\n")


def reformat(project: Path) -> None:
    """Write a file in another style."""
    path = project / "src" / "orders" / "core" / "health.py"
    path.write_text(path.read_text().replace('"', "'").replace("'''", '"""'))


def delete_a_test(project: Path) -> None:
    """Delete a file."""
    (project / "tests" / "test_fuzz.py").unlink()


EDITS: Mapping[str, tuple[Callable[[Path], None], Mapping[str, str | None]]] = {
    "a dependency": (add_dependency, {"pyproject.toml": '"orjson>=3.10"'}),
    "a first dependency": (add_first_dependency, {"pyproject.toml": '"aiofiles>=24.1"'}),
    "a development dependency": (
        add_development_dependency,
        {"pyproject.toml": '"types-aiofiles>=24.1"'},
    ),
    "a blueprint": (
        add_blueprint,
        {
            "src/orders/blueprints/__init__.py": "invoices.blueprint",
            "src/orders/blueprints/invoices.py": "Blueprint",
        },
    ),
    "a setting": (
        add_setting,
        {"src/orders/settings.py": "currency: str", ".env.example": "CURRENCY=EUR"},
    ),
    "a test": (add_test, {"tests/blueprints/test_invoices.py": "test_invoices"}),
    "a section": (add_section, {"README.md": "A long one."}),
    "a port": (change_port, {"README.md": "--port 9000"}),
    "a published port": (change_published_port, {"compose.yaml": "${PORT:-9000}"}),
    "a migration": (
        add_migration,
        {"migrations/versions/0002_invoices.py": "CREATE TABLE invoices"},
    ),
    "a default": (change_default, {"src/orders/core/settings.py": "Seconds = 20.0"}),
    "a variable": (add_variable, {".env.example": "FEATURE_FLAGS=none"}),
    "a compose service": (add_compose_service, {"compose.yaml": "MAIL_URL: smtp://mail:1025"}),
    "a style": (reformat, {"src/orders/core/health.py": "'/live'"}),
    "a deletion": (delete_a_test, {"tests/test_fuzz.py": None}),
}
"""What users do, and by what it is known: a text in a file, or None for a file that is gone."""


def edit(project: Path, names: list[str]) -> None:
    """Make edits and commit them."""
    for name in names:
        EDITS[name][0](project)
    commit_all(project, "Edit")


def assert_kept(project: Path, names: list[str]) -> None:
    """Check that edits are there, and that nothing conflicts."""
    assert git("ls-files", "-u", cwd=project) == ""
    for name in names:
        for file, text in EDITS[name][1].items():
            path = project / file
            if text is None:
                assert not path.exists(), f"{name}: {file} is back"
            else:
                assert text in path.read_text(), f"{name}: lost in {file}"
    for file in git("ls-files", cwd=project).splitlines():
        path = project / file
        if path.exists():
            assert not re.search("^(<<<<<<<|>>>>>>>)", path.read_text(), re.MULTILINE), file


def toggled(backends: list[str], backend: str) -> list[str]:
    """Return the backends with one more, or one less."""
    return [name for name in BACKENDS if (name in backends) != (name == backend)]


@pytest.mark.slow
@pytest.mark.parametrize("backends", SUBSETS, ids=name_of)
def test_all_edits_survive_every_toggle(backends: list[str], workbench: Path) -> None:
    """Each backend added or taken away, and other answers changed, with all edits at once."""
    project = generate(workbench / "orders", backends, commit=True)
    edit(project, list(EDITS))
    changes: list[dict[str, Any]] = [
        *({"backends": toggled(backends, backend)} for backend in BACKENDS),
        # The container stays: without its files, what is added to them has no place.
        {"features": ["container"]},
        {"features": all_features(backends)},
        {"ci": "gitlab"},
    ]
    for change in changes:
        update(project, **change)
        assert_kept(project, list(EDITS))
        git("reset", "-q", "--hard", cwd=project)
        git("clean", "-qfd", cwd=project)


@pytest.mark.slow
def test_edits_survive_a_container_that_comes_and_goes(workbench: Path) -> None:
    """But for those in its files."""
    names = [name for name, (_, known_by) in EDITS.items() if "compose.yaml" not in known_by]
    without = ["examples"]
    project = generate(workbench / "orders", ["postgres", "http"], features=without, commit=True)
    edit(project, names)
    for features in ([*without, "container"], without):
        update(project, features=features)
        assert_kept(project, names)
        commit_all(project)


def add_models(project: Path, databases: list[str]) -> None:
    """Add a module of models, and list its classes where the comments say so."""
    room = project / "src" / "orders" / "models"
    (room / "customers.py").write_text("# of a user\n")
    listed = "# Yours, for example: from . import customers\n"
    replace(room / "__init__.py", listed, f"{listed}from . import customers\n")
    for database in databases:
        hint = f"    # Yours in {database}, for example: customers.Customer,\n"
        replace(room / "__init__.py", hint, f"{hint}    customers.Customer,\n")


@pytest.mark.parametrize("around", ["{hint}{mine}", "{mine}{hint}", "{mine}"])
def test_what_is_listed_survives_examples_that_come_and_go(around: str, workbench: Path) -> None:
    """Below the comment that says where, above it, or in its place: also jobs and models."""
    features = ["examples", MODELS, "jobs"]
    project = generate(workbench / "orders", features=features, commit=True)
    package = project / "src" / "orders"
    lists = {
        "blueprints": (("", "mine.blueprint"),),
        "jobs": (("", "mine"),),
        "models": ((" in PostgreSQL", "mine.Table"), (" in MongoDB", "mine.Document")),
    }
    for room, entries in lists.items():
        registry = package / room / "__init__.py"
        text = registry.read_text()
        for which, entry in entries:
            (hint,) = re.findall(rf"    # Yours{which}, for example: .*\n", text)
            text = text.replace(hint, around.format(hint=hint, mine=f"    {entry},\n"))
        (hint,) = re.findall("# Yours, for example: from .*\n", text)
        mine = "from . import mine\n"
        registry.write_text(text.replace(hint, around.format(hint=hint, mine=mine)))
    commit_all(project)

    for kept in ([MODELS, "jobs"], features):
        update(project, features=kept)
        assert_kept(project, [])
        for room, entries in lists.items():
            text = (package / room / "__init__.py").read_text()
            assert "from . import mine\n" in text
            assert all(f"    {entry},\n" in text for _, entry in entries)
        commit_all(project)


@pytest.mark.slow
@pytest.mark.parametrize("backends", [["postgres"], ["mongo", "http"], list(BACKENDS)], ids=name_of)
def test_edits_survive_models_that_come_and_go(backends: list[str], workbench: Path) -> None:
    """A service without them then equals one that never had them, but for the user's edits."""
    without = ["examples", "container"]
    project = generate(workbench / "orders", backends, commit=True)
    edit(project, list(EDITS))
    before = files_of(project)

    update(project, features=[*without, MODELS])
    assert_kept(project, list(EDITS))
    commit_all(project)
    update(project, features=without)

    assert_kept(project, list(EDITS))
    assert changed(before, files_of(project)) == []


@pytest.mark.slow
def test_models_of_users_survive_another_database(workbench: Path) -> None:
    """What they list stays, whichever database and examples come and go."""
    features = ["examples", "container", MODELS]
    project = generate(workbench / "orders", ["postgres"], features=features, commit=True)
    add_models(project, ["PostgreSQL"])
    commit_all(project)
    for answers in (
        {"backends": ["postgres", "mongo"]},
        {"features": ["container", MODELS]},
        {"features": features},
        {"backends": ["postgres"]},
    ):
        update(project, **answers)
        assert git("ls-files", "-u", cwd=project) == ""
        text = (project / "src" / "orders" / "models" / "__init__.py").read_text()
        assert "from . import customers\n" in text
        assert "    customers.Customer,\n" in text
        commit_all(project)


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return the files that differ."""
    return sorted(name for name in before.keys() | after if before.get(name) != after.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_examples_that_are_deleted_by_hand_do_not_come_back(backend: str, workbench: Path) -> None:
    """A backend that is new brings its own; what is gone stays so, whatever comes and goes."""
    before = ["postgres", "redis"]
    project = generate(workbench / "orders", before, commit=True)
    gone = delete_examples(project)

    there = toggled(before, backend)
    for backends in [there, []] if backend in before else [there, before, there]:
        update(project, backends=backends)
        assert_kept(project, [])
        registry = project / "src" / "orders" / "blueprints" / "__init__.py"
        assert "examples" not in registry.read_text()
        assert [name for name in gone if (project / name).exists()] == []
        commit_all(project)


def delete_examples(project: Path) -> list[str]:
    """Delete the examples by hand, commit that, and return the files that are gone."""
    registry = project / "src" / "orders" / "blueprints" / "__init__.py"
    replace(registry, "from . import examples\n\n", "")
    replace(registry, "BLUEPRINTS += examples.BLUEPRINTS\n", "")
    listed = git("ls-files", "src/orders/blueprints", "tests/blueprints", cwd=project).splitlines()
    gone = [name for name in listed if not name.endswith("__init__.py")]
    git("rm", "-q", *gone, cwd=project)
    commit_all(project)
    return gone


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_each_edit_survives_alone(name: str, workbench: Path) -> None:
    """From nothing to everything and back."""
    project = generate(workbench / "orders", [], features=["container"], ci="none", commit=True)
    edit(project, [name])
    there: dict[str, Any] = {"backends": list(BACKENDS), "features": all_features(), "ci": "github"}
    back: dict[str, Any] = {"backends": [], "features": ["container"], "ci": "none"}
    for change in (there, back):
        update(project, **change)
        assert_kept(project, [name])
        commit_all(project)


OPEN = [name for name in all_features() if name != "auth"]
"""With `auth`, a test fails until an own endpoint says who may call it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"backends": ["redis"]}, {"backends": ["postgres", "redis"]}),
        ({}, {"backends": ["postgres"]}),
        ({"backends": ["mongo", "redis"]}, {"features": OPEN, "ci": "gitlab"}),
    ],
    ids=["another backend", "one backend left", "another feature"],
)
def test_an_edited_service_works_after_an_update(
    before: dict[str, Any], after: dict[str, Any], tmp_path: Path
) -> None:
    """It lints, type-checks and passes its tests."""
    project = generate(tmp_path / "orders", **before, commit=True)
    edit(project, [name for name in EDITS if name != "a style"])

    update(project, **after)

    uv("sync", "--quiet", cwd=project)
    uv("run", "ruff", "check", cwd=project)
    uv("run", "ruff", "format", "--check", cwd=project)
    uv("run", "mypy", cwd=project)
    uv("run", "pytest", "-q", cwd=project)


@pytest.mark.slow
def test_an_own_volume_survives_as_long_as_there_are_others(workbench: Path) -> None:
    """With its service, where the comments say so; the neighbours in the list come and go."""
    project = generate(
        workbench / "orders", ["postgres", "redis"], features=["container"], commit=True
    )
    compose = project / "compose.yaml"
    replace(compose, "  # What you add\n", "  # What you add\n  mail:\n")
    append(compose, "  mail:\n    image: axllent/mailpit:v1\n    volumes: [mail:/data]\n")
    commit_all(project)

    for backends in (["postgres"], ["mongo"], ["mongo", "redis"]):
        update(project, backends=backends)
        assert_kept(project, [])
        merged = yaml.safe_load(compose.read_text())
        assert set(merged["volumes"]) == {*backends, "mail"}
        assert merged["services"]["mail"]["volumes"] == ["mail:/data"]
        commit_all(project)


SERVICES = [backend for backend in BACKENDS if backend != "http"]
"""The backends with a server in compose.yaml."""


@pytest.mark.parametrize("toggle", SERVICES)
def test_an_edit_never_moves_to_a_neighbour(toggle: str, workbench: Path) -> None:
    """At the end of each block, where another one comes or goes: it stays, or conflicts.

    git goes by the three lines above and below, so no two blocks may end alike.
    """
    others = [backend for backend in SERVICES if backend != toggle]
    project = generate(workbench / "orders", others, features=["container"], commit=True)
    compose = project / "compose.yaml"
    for backend in others:
        add_to_health_check(compose, backend)
    commit_all(project)

    for backends in (SERVICES, others):
        update(project, backends=backends)

        if git("ls-files", "-u", cwd=project) != "":
            assert compose.read_text().count("start_period: 9s") >= len(others)
            return
        services = yaml.safe_load(compose.read_text())["services"]
        edited = {name for name in services if "9s" in str(services[name])}
        assert edited == set(others)
        commit_all(project)


def add_to_health_check(compose: Path, service: str) -> None:
    """Add a line at the end of the health check of a service."""
    lines = compose.read_text().splitlines(keepends=True)
    first = lines.index(f"  {service}:\n", lines.index("services:\n"))
    lines.insert(lines.index("\n", first), "      start_period: 9s\n")
    compose.write_text("".join(lines))


def test_both_sides_of_one_line_are_a_conflict_that_shows(workbench: Path) -> None:
    """Where two changes cannot be merged, nothing is lost, and git says so."""
    project = generate(workbench / "orders", commit=True)
    replace(project / "README.md", "# Orders\n\nA Quart service.\n", "# Orders\n\nOur pride.\n")
    commit_all(project)

    update(project, description="Takes orders.")

    assert git("ls-files", "-u", "--format=%(path)", cwd=project).splitlines() != []
    text = (project / "README.md").read_text()
    assert "Our pride." in text
    assert "Takes orders." in text


def test_a_backend_that_goes_takes_its_edits_where_git_keeps_them(workbench: Path) -> None:
    """Copier deletes a file that is not chosen any more; the way back is in the README."""
    project = generate(workbench / "orders", ["postgres", "redis"], commit=True)
    module = project / "src" / "orders" / "backends" / "redis.py"
    append(module, "\nMINE = True\n")
    commit_all(project)

    outcome = copier("update", "--defaults", "-d", "backends=[postgres]", cwd=project)

    assert "Removing a backend or a feature deletes its files" in outcome.output
    assert "git ls-files -d  " in outcome.output
    assert "`git restore FILE`" in outcome.output
    assert not module.exists()
    assert "src/orders/backends/redis.py" in git("ls-files", "-d", cwd=project).splitlines()
    git("restore", module, cwd=project)
    assert "MINE" in module.read_text()


def test_an_update_needs_a_clean_state(workbench: Path) -> None:
    """Work that is not committed stops it."""
    project = generate(workbench / "orders", ["redis"], commit=True)
    append(project / "README.md", "\nNot committed.\n")

    outcome = copier("update", "--defaults", cwd=project, check=False)

    assert outcome.code != 0
    assert outcome.output.strip() == (
        "Destination repository is dirty; cannot continue. "
        "Please commit or stash your local changes and retry."
    )
    assert "Not committed." in (project / "README.md").read_text()
