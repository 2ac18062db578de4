"""The README of a service: its code does what it says, where it says to put it."""

import ast
import re
from pathlib import Path
from textwrap import indent

import pytest
from harness import FEATURES, generate, register, uv

GIVEN = """
email = "ada@example.org"
password, salt = b"secret", b"of this test"


async def ask_for_rate(currency: str) -> str:
    return f"1.1 {currency}"
"""
"""What the code takes for granted."""

EXPECTED = {
    "key": "len(key) == 64",
    "row": "row['name'] == 'Ada'",
    "customer": "customer is None",
    "rate": "rate == '1.1 EUR'",
    "weather": "weather['city'] == 'Berlin'",
    "total": "total > 0",
}
"""What holds when code has run that ends up with such a variable."""

TRY_IT = """
async def test_{number}() -> None:
    app = create_app()
    async with app.test_app(), app.app_context():
        await postgres.pool().execute(
            "INSERT INTO customers VALUES ($1, 'Ada') ON CONFLICT DO NOTHING", email
        )
        for _ in range(2):
{code}
            assert {expected}
"""


@pytest.mark.slow
def test_the_code_in_the_readme_works(tmp_path: Path) -> None:
    """An endpoint, its test, a migration and every client, as a user would copy them."""
    project = generate(tmp_path / "orders", features=list(FEATURES))
    uv("sync", "--quiet", cwd=project)
    readme = (project / "README.md").read_text()
    apply_migration(project, readme)
    endpoint, another, test, *others = blocks("python", readme)
    (project / "src" / "orders" / "greetings.py").write_text(
        f'"""Greetings."""\n\n{endpoint}{another}'
    )
    (project / "tests" / "test_greetings.py").write_text(f'"""Greetings."""\n\n{test}')
    register(project, "greetings")
    (project / "tests" / "test_code.py").write_text(try_all(others))

    tested = uv("run", "pytest", "-q", "tests/test_greetings.py", "tests/test_code.py", cwd=project)
    uv("run", "mypy", "src/orders/greetings.py", "tests/test_greetings.py", cwd=project)

    assert f"{len(others) + 1} passed" in tested.output
    assert len(others) >= 5


def blocks(language: str, readme: str) -> list[str]:
    """Return the code in a language that stands in a README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


def apply_migration(project: Path, readme: str) -> None:
    """Begin the migration with the README's command, and write its SQL into it."""
    command = re.search(r"`uv run (alembic revision -m) \"(.*?)\"`", readme)
    assert command is not None
    unused = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    uv("run", *command[1].split(), command[2], "--rev-id", "0002", cwd=project, env=unused)
    (migration,) = (project / "migrations" / "versions").glob("0002_*.py")
    text = migration.read_text()
    for sql in blocks("sql", readme):
        text = text.replace("SELECT 1", sql.strip(), 1)
    migration.write_text(text)
    assert "SELECT 1" not in text


def try_all(snippets: list[str]) -> str:
    """Return tests that run each snippet twice in a serving app; bare calls declare something."""
    top = ["from orders.app import create_app", "from orders.backends import postgres"]
    tests = []
    for number, snippet in enumerate(snippets):
        code: list[str] = []
        for statement in ast.parse(snippet).body:
            declares = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            imports = isinstance(statement, ast.Import | ast.ImportFrom)
            (top if imports or declares else code).append(ast.unparse(statement))
        ends_with = [name for name in EXPECTED if re.search(rf"\b{name} = ", snippet)]
        expected = " and ".join(EXPECTED[name] for name in ends_with) or "True"
        body = indent("\n".join(code), " " * 12)
        tests.append(TRY_IT.format(number=number, code=body, expected=expected))
    return "\n".join([*top, GIVEN, *tests])
