"""The service as a process of its own, run as its README says for production."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PACKAGE = "orders"
HOST = "127.0.0.1"

START_TIMEOUT = 15.0
STOP_TIMEOUT = 20.0

OPTIONS = ("--timeout-graceful-shutdown", "10", "--no-access-log", "--no-server-header")

LIMITED = 'ulimit -n "$1"; shift; exec "$@"'
"""A shell script: run a command with a limit to its open files."""


class Service:
    """A running service."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        """log: where its messages go."""
        self._process = process
        self.url = url
        self.log = log

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Let it crash."""
        self._process.kill()

    def freeze(self) -> None:
        """Let it hang."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def end(self) -> int:
        """Wait for its end, and return the exit code; -9 if it had to be killed."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def open_files(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    async def readiness(self) -> dict[str, Any]:
        """Return what /health/ready reports."""
        async with aiohttp.ClientSession(self.url) as session:
            response = await session.get("/health/ready")
            report: dict[str, Any] = await response.json()
            return report

    async def status(self, path: str) -> int:
        """Return the status that a request ends with, or 0."""
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(self.url, timeout=timeout) as session,
                session.get(path) as response,
            ):
                status: int = response.status
                return status
        except (aiohttp.ClientError, TimeoutError):
            return 0


@asynccontextmanager
async def running(
    log: Path,
    environment: Mapping[str, str],
    *,
    open_files: int | None = None,
    stderr: int | None = None,
) -> AsyncIterator[Service]:
    """Start the service, wait until it is live, lend it, and stop it.

    log: where it writes to. environment: its settings. open_files: how many it may have. stderr: a
    file descriptor that it writes to in place of the log.
    """
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{PACKAGE}.app:create_app"]
    command += [*OPTIONS, "--host", HOST, "--port", str(port)]
    if open_files:
        command = ["sh", "-c", LIMITED, "sh", str(open_files), *command]
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | dict(environment),
            stdout=file,
            stderr=file if stderr is None else stderr,
        )
    service = Service(process, f"http://{HOST}:{port}", log)
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while await service.status("/health/live") != 200:
                assert process.returncode is None, f"the service ended, see {log}"
                await asyncio.sleep(0.02)
        yield service
    finally:
        if process.returncode is None:
            service.terminate()
            await service.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
