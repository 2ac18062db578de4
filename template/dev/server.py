"""What the development servers share: a supervised process, its port, its log, its errors."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from dev import supervisor

HOST = "127.0.0.1"

START_TIMEOUT = 30.0
"""Seconds that a server may take until it is ready."""

POLL_EVERY = 0.02
"""Seconds between two looks at something that should happen soon."""

LOG_LINES_SHOWN = 12


class CannotStart(Exception):
    """A server cannot be started; the message says why, and what to do."""


class DevServer(Protocol):
    """What a module of this package offers for one kind of server."""

    NAME: str
    """The name of its folder."""

    TITLE: str
    """The name for people."""

    VARIABLE: str
    """The environment variable that holds its URL."""

    def start(self, directory: Path, *, durable: bool, port: int | None = None) -> "Server":
        """Start a server whose data is in the directory, and return once it is ready.

        durable: keep data safe, at the price of speed. port: the one to use, else a free one.
        Raises CannotStart.
        """

    def prepare(self, url: str, /) -> None:
        """Bring the server at the URL into the state that the service expects.

        Raises CannotStart.
        """

    def scratch(self, url: str, name: str, /) -> AbstractContextManager[str]:
        """Lend the URL of an empty database of its own, on the server at the URL.

        It is removed at the end of the `with` block. Raises CannotStart where that could harm
        data that does not come from here.
        """


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to run a server on a certain port."""

    title: str
    url: str
    port: int

    variable: str | None = None
    """The environment variable that configures another server in place of this one."""

    command: Sequence[str | Path]

    environment: Mapping[str, str] | None = None
    folder: Path | None = None
    """The working directory."""

    stop_signal: signal.Signals = signal.SIGTERM
    """What the server takes as a request to end."""

    account: tuple[int, int] | None = None
    """User id and group id, if not those of this process."""

    scrap: Path | None = None
    """A folder to delete once the server has been stopped."""


class Server:
    """A running server; its supervisor stops it when this process ends in whatever way.

    Attributes: title, url, port, and pid, which is the server's own process id and not its
    supervisor's.
    """

    def __init__(self, program: Program, log: IO[bytes] | None = None) -> None:
        """Start the program; it need not be ready yet.

        log: where its output goes, else to this process's standard error. Raises CannotStart.
        """
        self.title = program.title
        self.url = program.url
        self.port = program.port
        self._variable = program.variable
        self._log = None if log is None else Path(log.name)
        account = ":".join(map(str, program.account)) if program.account else "-"
        self._supervisor = subprocess.Popen(  # noqa: S603 - nothing here comes from outside
            [
                *(sys.executable, "-I", "-S", supervisor.__file__),
                *(str(int(program.stop_signal)), account, program.scrap or "-"),
                *program.command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env=program.environment,
            cwd=program.folder,
            # Out of reach for a Ctrl-C, which the terminal sends to all programs in front.
            start_new_session=True,
        )
        pid = self._output.readline()
        if not pid:
            self.stop()
            raise self.problem("cannot be run")
        self.pid = int(pid)

    @property
    def _input(self) -> IO[bytes]:
        assert self._supervisor.stdin is not None  # noqa: S101 - told to be a pipe
        return self._supervisor.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._supervisor.stdout is not None  # noqa: S101 - told to be a pipe
        return self._supervisor.stdout

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()

    def stop(self) -> None:
        """Stop the server in good order, by force after 10 s; a second call does nothing."""
        if not self._input.closed:
            # A word in addition to the end of the pipe, as forked processes may hold the pipe open.
            with suppress(BrokenPipeError):
                self._input.write(b".")
            self._input.close()
        self._supervisor.wait()
        self._output.close()

    def kill(self) -> None:
        """Let the server crash: SIGKILL, without warning."""
        supervisor.send(signal.SIGKILL, supervisor.family(self.pid))
        self._supervisor.wait()
        self.stop()

    def freeze(self) -> None:
        """Let the server hang until `thaw()`: connections stay, answers do not come (POSIX)."""
        # First the parent, so that no child is born meanwhile.
        supervisor.send(signal.SIGSTOP, [self.pid])
        supervisor.send(signal.SIGSTOP, supervisor.family(self.pid))

    def thaw(self) -> None:
        """End a `freeze()`."""
        supervisor.send(signal.SIGCONT, supervisor.family(self.pid))

    def ended(self) -> bool:
        """Return whether the server has ended, for whatever reason."""
        return self._supervisor.poll() is not None

    def wait(self) -> int:
        """Wait until the server ends, and return its exit code (128 + n for signal n)."""
        return self._supervisor.wait()

    def wait_until(self, ready: Callable[["Server"], None]) -> None:
        """Wait until `ready` raises no exception any more; raises CannotStart."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.ended():
            try:
                ready(self)
            except Exception as error:  # a half-started server may answer anything
                if time.monotonic() > deadline:
                    raise self.problem(f"does not answer ({error!r})") from error
                time.sleep(POLL_EVERY)
            else:
                return
        raise self.problem(f"ended with code {self.wait()} while it was starting")

    def problem(self, what: str) -> CannotStart:
        """Return an error that says what is wrong, what to do, and what the log says."""
        advice = f"; to use a server of yours, set {self._variable}" if self._variable else ""
        lines = [f"{self.title} {what}{advice}"]
        if self._log is not None:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            lines += [f"  {line}" for line in text.splitlines()[-LOG_LINES_SHOWN:]]
        return CannotStart("\n".join(lines))


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        if os.name == "posix":
            # As servers do: connections of an earlier server that linger do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
