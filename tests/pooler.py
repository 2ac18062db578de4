"""A connection pooler in transaction mode with one server connection, as PgBouncer would have it.

Each client gets the connection of the one before it, with the prepared statements that it left.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit, urlunsplit

ENCRYPTION_REQUESTS = {80877103, 80877104}
TERMINATE, READY = b"X", b"Z"


class Pooler:
    """Serves one client after the other."""

    def __init__(self, host: str, port: int) -> None:
        """host, port: of the server."""
        self._address = host, port
        self._server: tuple[StreamReader, StreamWriter] | None = None
        self._greeting = b""
        """What the server says after it has accepted the password."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a client until it leaves."""
        startup = await self._startup(reader, writer)
        if self._server is None:
            self._server = await asyncio.open_connection(*self._address)
            self._server[1].write(startup)
            to_server = asyncio.create_task(self._forward(reader))
            await self._log_in(writer)
        else:
            writer.write(self._greeting)
            to_server = asyncio.create_task(self._forward(reader))
        to_client = asyncio.create_task(self._answer(writer))
        await to_server
        to_client.cancel()
        writer.close()

    def close(self) -> None:
        """Close the connection to the server."""
        if self._server is not None:
            self._server[1].close()

    async def _startup(self, reader: StreamReader, writer: StreamWriter) -> bytes:
        while True:
            size = await reader.readexactly(4)
            message = await reader.readexactly(int.from_bytes(size) - 4)
            if int.from_bytes(message[:4]) not in ENCRYPTION_REQUESTS:
                return size + message
            writer.write(b"N")

    async def _log_in(self, writer: StreamWriter) -> None:
        assert self._server is not None
        kind = b""
        while kind != READY:
            kind, message = await _message(self._server[0])
            writer.write(message)
            accepted = kind != b"R" or message[5:9] == bytes(4)
            self._greeting += message if accepted else b""

    async def _forward(self, reader: StreamReader) -> None:
        assert self._server is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while (of_client := await _message(reader))[0] != TERMINATE:
                self._server[1].write(of_client[1])

    async def _answer(self, writer: StreamWriter) -> None:
        assert self._server is not None
        while True:
            writer.write((await _message(self._server[0]))[1])


async def _message(reader: StreamReader) -> tuple[bytes, bytes]:
    """Read a message; returns its kind, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """Lend the URL of a pooler in front of the server at a URL."""
    parts = urlsplit(url)
    pooler = Pooler(parts.hostname or "", parts.port or 5432)
    started: Future[tuple[int, Callable[[], object]]] = Future()

    async def serve() -> None:
        stopped = asyncio.Event()
        async with await asyncio.start_server(pooler.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            started.set_result((port, partial(loop.call_soon_threadsafe, stopped.set)))
            await stopped.wait()
        pooler.close()

    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(asyncio.run, serve())
        port, stop = started.result(timeout=10)
        try:
            login = f"{parts.username}:{parts.password}"
            yield urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        finally:
            stop()
        ended.result(timeout=10)
