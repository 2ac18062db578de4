"""DATABASE_URL: read when the service starts, by the parser of the client."""

import os
from collections.abc import Callable

import pytest
from dev import postgres as kind
from orders.backends import postgres
from orders.core.settings import InvalidSettings
from quart import Quart

CreateApp = Callable[[], Quart]

GOOD = [
    "postgresql://user:password@localhost:5432/database",
    "postgres://user:password@localhost/database",
    "postgresql://user:p%40ss%23word@localhost/database",
    "postgresql:///database?host=/var/run/postgresql",
    "postgresql://user@a:5432,b:5433/database?target_session_attrs=read-write",
    "postgresql://[::1]:5432/database",
    "postgresql://",
]

INVALID = "is not a valid URL; for example postgresql://"

WRONG = {
    "localhost:5432/database": INVALID,
    "mysql://user:secret@localhost/database": INVALID,
    "postgresql+asyncpg://user:secret@localhost/database": INVALID,
    "postgresql://user:secret@localhost:port/database": INVALID,
    "postgresql://user:sec#ret@localhost:5432/database": "has the character #; write it as %23",
    "postgresql://user:secret@localhost/database?sslmode=requird": INVALID,
    "postgresql://user:secret@localhost/database?sslrootcert=missing&sslmode=verify-ca": INVALID,
    "postgresql://user:secret@localhost/database?channel_binding=require": "channel_binding",
    "postgresql://user:secret@localhost/database?pgbouncer=true": "pgbouncer",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_is_accepted(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    create_app()


@pytest.mark.parametrize(("url", "message"), WRONG.items())
def test_a_wrong_url_stops_the_start(
    url: str, message: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    (line,) = str(stopped.value).splitlines()
    assert line.startswith("DATABASE_URL: ")
    assert message in line
    assert not any(part in line for part in ("secret", "sec#", "#ret"))


OPTIONS = {
    "application_name": "other",
    "channel_binding": "prefer",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "fallback_application_name": "other",
    "gssdelegation": "0",
    "gssencmode": "prefer",
    "hostaddr": "127.0.0.1",
    "keepalives": "1",
    "keepalives_count": "3",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "krbsrvname": "postgres",
    "load_balance_hosts": "disable",
    "max_protocol_version": "latest",
    "min_protocol_version": "3.0",
    "options": "-c geqo=off",
    "passfile": "/dev/null",
    "replication": "false",
    "require_auth": "scram-sha-256",
    "requirepeer": "postgres",
    "requiressl": "0",
    "scram_client_key": "AAAA",
    "search_path": "public",
    "ssl_max_protocol_version": "TLSv1.3",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcertmode": "allow",
    "sslcompression": "0",
    "sslmode": "prefer",
    "sslnegotiation": "postgres",
    "sslsni": "1",
    "statement_timeout": "1000",
    "target_session_attrs": "any",
    "tcp_user_timeout": "0",
    # Of other programs
    "pgbouncer": "true",
    "pool_max_conns": "10",
    "schema": "public",
    "supa": "base-pooler.x",
}


@pytest.mark.parametrize(("name", "value"), OPTIONS.items())
async def test_an_option_works_or_is_refused_by_name(
    name: str, value: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of libpq: what starts also connects."""
    monkeypatch.setenv("DATABASE_URL", f"{os.environ['DATABASE_URL']}?{name}={value}")
    try:
        app = create_app()
    except InvalidSettings as error:
        assert str(error).startswith("DATABASE_URL: ")
        assert name in str(error)
        return
    async with app.test_app(), app.app_context():
        assert await postgres.pool().fetchval("SELECT 1") == 1


def test_a_database_of_tests_has_the_options_of_the_url(databases: None) -> None:
    """Also those that the service ignores."""
    url = f"{os.environ[kind.VARIABLE]}?channel_binding=prefer"
    with kind.scratch(url, "test_options") as lent:
        assert lent.endswith("/test_options?channel_binding=prefer")
