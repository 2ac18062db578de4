"""Runs the migrations on the database at DATABASE_URL, through asyncpg as the service does.

`uv run alembic upgrade head` applies all that are not applied yet.
`uv run alembic revision -m "add a column"` begins a new one.
"""

import asyncio
import os
import sys
from typing import Any

import asyncpg
from alembic import context
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

LOCK = 7_403_115_922
"""Any number, the same for all who migrate: the advisory lock that lets one of them run at once."""


LOST = """\
The database has had a migration that is not in migrations/versions, and needs it there:
`git log --stat -- migrations/versions` tells when it went, and `git restore` brings it back."""


async def connect() -> Any:
    """Open a connection with asyncpg's own reading of the URL, options such as sslmode included."""
    return await asyncpg.connect(os.environ["DATABASE_URL"])


def migrate(connection: Connection) -> None:
    """Apply the migrations in one transaction."""
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        try:
            context.run_migrations()
        except CommandError as error:
            if isinstance(error.__cause__, ResolutionError):
                raise CommandError(f"{error}\n{LOST}") from error
            raise


async def main() -> None:
    """Migrate, and leave no connection open."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if not os.environ.get("DATABASE_URL"):
    sys.exit("DATABASE_URL: is missing; for example postgresql://user:password@localhost/database")
if context.is_offline_mode():
    sys.exit("Migrations run on a database only; leave out --sql.")
asyncio.run(main())
