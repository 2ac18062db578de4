"""The README of a service: its code does what it says, where it says to put it."""

import re
from pathlib import Path

import pytest
from harness import MODELS, all_features, generate, register, uv
from snippets import FUNCTION, blocks

CALLS = {
    "customer_name": ("'ada@example.org'", "'Ada'"),
    "customer": ("'ada@example.org'", "None"),
    "load_rate": ("", "1.1"),
    "rate": ("", "1.1"),
    "load_weather": ("'São Paulo'", "result | {'city': 'São Paulo'}"),
    "total": ("[1, 2]", "3"),
    "me": ("", "{'subject': 'ada'}"),
    "send_invoice": ("7", "None"),
}
"""The arguments of each function, and its result."""

USE_CLIENTS = """\
from pymongo import IndexModel

from ..backends import mongo, postgres, redis

{declare}


async def customer_name(email: str) -> object:
    return {query}


async def customer(email: str) -> object:
    return {find}


async def load_rate() -> float:
    return 1.1


async def rate() -> object:
    return {cached}
"""

CLIENTS = {
    "declare": "mongo.declare_indexes",
    "query": "await postgres.pool",
    "find": "await mongo.database",
    "cached": "await redis.cached",
}
"""How the code of each client begins that stands inside a sentence."""

TRY_IT = """
import inspect

import pytest
from quart import Quart, g

from orders.auth import Caller
from orders.backends import postgres
{imports}


@pytest.mark.parametrize("number", range({number}))
async def test_function(app: Quart, number: int) -> None:
    calls = [{calls}]
    async with app.test_app(), app.app_context():
        await postgres.pool().execute(
            "INSERT INTO customers VALUES ('ada@example.org', 'Ada') ON CONFLICT DO NOTHING"
        )
        g.caller = Caller("ada", frozenset(), {{}})
        call, check = calls[number]
        result = call()
        assert check(await result if inspect.isawaitable(result) else result)
"""


@pytest.mark.slow
def test_the_code_in_the_readme_works(tmp_path: Path) -> None:
    """An endpoint, its test, a migration and every client, as a user would copy them."""
    features = [name for name in all_features() if name != MODELS]
    project = generate(tmp_path / "orders", features=features)
    uv("sync", "--quiet", cwd=project)
    readme = (project / "README.md").read_text()
    apply_migration(project, readme)
    endpoint, test, *modules = [block.text for block in blocks(readme, "python")]
    inside = {
        name: re.findall(rf"`({re.escape(begin)}\(.*?)`", readme)[0]
        for name, begin in CLIENTS.items()
    }
    modules.append(USE_CLIENTS.format(**inside))
    package = project / "src" / "orders" / "blueprints"
    tests = project / "tests" / "blueprints"
    (package / "greetings.py").write_text(endpoint)
    (tests / "test_greetings.py").write_text(test)
    register(project, "greetings")
    calls = []
    imports = []
    for number, text in enumerate(modules):
        room = "jobs" if "from .queue import" in text else "blueprints"
        (package.parent / room / f"readme_{number}.py").write_text(text)
        imports.append(f"from orders.{room} import readme_{number}")
        for name in FUNCTION.findall(text):
            arguments, expected = CALLS[name]
            call = f"lambda: readme_{number}.{name}({arguments})"
            calls.append(f"({call}, lambda result: result == {expected})")
    (tests / "test_readme.py").write_text(
        TRY_IT.format(imports="\n".join(imports), number=len(calls), calls=", ".join(calls))
    )

    ours = ("tests/blueprints/test_greetings.py", "tests/blueprints/test_readme.py")
    tested = uv("run", "pytest", "-q", *ours, cwd=project)
    uv("run", "mypy", "src", ours[0], cwd=project)
    uv("run", "ruff", "check", "src", ours[0], "migrations", cwd=project)
    uv("run", "ruff", "format", "--check", "src", ours[0], "migrations", cwd=project)

    assert f"{len(calls) + 1} passed" in tested.output
    assert len(calls) == len(CALLS)


def apply_migration(project: Path, readme: str) -> None:
    """Begin the migration with the README's command, and write its SQL into it."""
    command = re.search(r"`uv run (alembic revision -m) \"(.*?)\"`", readme)
    assert command is not None
    uv("run", *command[1].split(), command[2], "--rev-id", "0002", cwd=project)
    (migration,) = (project / "migrations" / "versions").glob("0002_*.py")
    text = migration.read_text()
    for sql in re.findall(r"`((?:CREATE|DROP) .*?)`", readme):
        text = re.sub(r"TODO: .*", sql, text, count=1)
    migration.write_text(text)
    assert "TODO" not in text


CUSTOMER = """\
from sqlalchemy import BigInteger, Identity
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
"""

USE_MODELS = """
from beanie import init_beanie
from quart import Quart

from orders.backends import mongo, postgres
from orders.blueprints import readme_models
from orders.models.base import Base
from orders.models.customers import Customer
from orders.models.members import Member


async def test_what_the_readme_says(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        async with postgres.session() as session:
            await (await session.connection()).run_sync(Base.metadata.create_all)
            session.add(Customer(email="ada@example.org"))
        found = await readme_models.customer("ada@example.org")
        assert found is not None
        assert found.email == "ada@example.org"
        await init_beanie(database=mongo.database(), document_models=[Member])
        await Member(email="ada@example.org", age=36).insert()
        (member,) = await {query}
        assert member.age == 36
"""


@pytest.mark.slow
def test_the_code_in_the_readme_works_with_models(open_path: Path) -> None:
    """A query in a session, a document and a query of it."""
    project = generate(open_path / "orders", ["postgres", "mongo"], features=[MODELS])
    uv("sync", "--quiet", cwd=project)
    readme = (project / "README.md").read_text()
    _, _, in_session, document = [block.text for block in blocks(readme, "python")]
    (query,) = re.findall(r"`await (Member\..*?)`", readme)
    package = project / "src" / "orders"
    (package / "models" / "customers.py").write_text(CUSTOMER)
    (package / "models" / "members.py").write_text(document)
    (package / "blueprints" / "readme_models.py").write_text(in_session)
    (project / "tests" / "test_readme.py").write_text(USE_MODELS.format(query=query))

    uv("run", "pytest", "-q", "tests/test_readme.py", cwd=project)
    uv("run", "mypy", cwd=project)
    uv("run", "ruff", "check", cwd=project)
