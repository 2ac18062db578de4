"""The roads from μMongo in the guide, each against a real server."""

import re
from pathlib import Path

import pytest
from harness import MODELS, ROOT, generate, register, uv
from snippets import blocks

ROADS = ("beanie_customers", "plain_customers", "kept_customers")

TESTS = """
from typing import Any
from uuid import uuid4

import pytest
from pymongo.errors import DuplicateKeyError
from quart import Quart
from umongo import ValidationError

from orders.backends import mongo
from orders.blueprints import beanie_customers, kept_customers, plain_customers


@pytest.mark.parametrize("road", [beanie_customers, plain_customers, kept_customers])
async def test_each_road_stores_what_the_others_find(app: Quart, road: Any) -> None:
    email = f"{uuid4().hex}@example.org"
    async with app.test_app(), app.app_context():
        await mongo.ping()
        added = await road.add_customer(email, "Ada")
        with pytest.raises((DuplicateKeyError, ValidationError)):
            await road.add_customer(email, "Eve")
        found = await mongo.database().customers.find_one({"email": email})

    assert getattr(added, "name", added) == "Ada"
    assert found is not None
    assert (found["email"], found["name"]) == (email, "Ada")
"""


@pytest.mark.slow
def test_each_road_from_umongo_works(tmp_path: Path) -> None:
    """Typed and linted as well. They share a collection, whose index each of them declares."""
    page = (ROOT / "docs" / "async.md").read_text()
    section = re.findall(r"^## From μMongo$.*?(?=^## )", page, re.MULTILINE | re.DOTALL)
    project = generate(tmp_path / "orders", ["mongo"], features=[MODELS])
    uv("add", "--quiet", "umongo", "mongomock", cwd=project)
    for block in blocks(section[0], "python"):
        assert block.file is not None
        (project / block.file).write_text(block.text)
    (types,) = (block.text for block in blocks(section[0], "toml"))
    metadata = project / "pyproject.toml"
    metadata.write_text(f"{metadata.read_text()}\n{types}")
    models = project / "src" / "orders" / "models" / "__init__.py"
    text = models.read_text()
    for line in re.findall(
        "(?:# Yours, for example: |    # Yours in MongoDB, for example: ).*", text
    ):
        indent = line[: len(line) - len(line.lstrip())]
        text = text.replace(line, f"{line}\n{indent}{line.partition('example: ')[2]}")
    models.write_text(text)
    register(project, "kept_customers")
    (project / "tests" / "test_roads.py").write_text(TESTS)

    tested = uv(
        "run", "pytest", "-q", "tests/test_roads.py", "tests/test_kept_customers.py", cwd=project
    )
    uv("run", "mypy", cwd=project)
    uv("run", "ruff", "check", cwd=project)
    uv("run", "ruff", "format", "--check", "src", "tests/test_kept_customers.py", cwd=project)

    assert "4 passed" in tested.output


@pytest.mark.slow
def test_the_linter_names_the_road(tmp_path: Path) -> None:
    """Whoever imports the synchronous client reads how to keep a library that needs it."""
    project = generate(tmp_path / "orders", ["mongo"], features=[])
    uv("sync", "--quiet", cwd=project)
    (project / "src" / "orders" / "old.py").write_text(
        "from pymongo import MongoClient\n\nprint(MongoClient)\n"
    )

    found = uv("run", "ruff", "check", "src/orders/old.py", cwd=project, check=False)

    assert "blocking.run()" in found.output
