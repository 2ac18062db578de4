"""What the development servers share: a supervised process, its port, its log, its errors."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol, Self

from dev import supervisor
from dev.lock import try_lock

HOST = "127.0.0.1"

START_TIMEOUT = 30.0
"""Seconds that a server may take until it is ready."""

CLAIM_TIMEOUT = supervisor.GRACE + 5.0
"""Seconds to wait for a server of an earlier run that is still being stopped."""

POLL_EVERY = 0.02
"""Seconds between two looks at something that should happen soon."""

PORT_ATTEMPTS = 5
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


def launch(
    program: Callable[[int], Program],
    ready: Callable[[Server], None],
    log: IO[bytes],
    port: int | None,
) -> Server:
    """Start a server and wait until it is ready.

    program: how to run it on a given port. ready: raises an exception as long as the server is not
    ready. port: the one to use; else a free one is chosen, and another one when it is taken away
    before the server has it. Raises CannotStart.
    """
    if port is not None and not is_free(port):
        raise CannotStart(f"{program(port).title}: port {port} is taken")
    for attempt in range(1, PORT_ATTEMPTS + 1):
        chosen = port or free_port()
        server = Server(program(chosen), log)
        try:
            server.wait_until(ready)
        except BaseException as error:
            server.stop()
            collided = isinstance(error, CannotStart) and port is None and not is_free(chosen)
            if not collided or attempt == PORT_ATTEMPTS:
                raise
        else:
            break
    return server


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


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


@contextmanager
def claimed(log: Path, title: str) -> Iterator[IO[bytes]]:
    """Make the folder of the log and open the log, as the only one who uses the folder.

    The server gets the open file as its output, and the lock with it: a later start waits until
    the last of its processes has ended. Raises CannotStart when that takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + CLAIM_TIMEOUT
    with log.open("ab") as file:
        # Windows locks are not inherited, and hinder reading.
        while os.name == "posix" and not try_lock(file):
            if time.monotonic() > deadline:
                raise CannotStart(f"{title}: another process uses {log.parent}")
            time.sleep(POLL_EVERY)
        file.truncate(0)
        yield file


def secret(path: Path) -> str:
    """Return the password that a file holds; make the file, for its owner only, if need be."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16))
    return path.read_text()


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def works(
    executable: Path,
    account: tuple[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Return whether a program can be run here: on this processor, with these libraries."""
    try:
        outcome = subprocess.run(  # noqa: S603 - a server that we are about to run anyway
            [executable, "--version"],
            check=False,
            capture_output=True,
            timeout=START_TIMEOUT,
            user=account and account[0],
            group=account and account[1],
            extra_groups=[] if account else None,
            env=environment,
        )
    except OSError:
        return False
    return outcome.returncode == 0


def no_binary(title: str, variable: str) -> CannotStart:
    """Return the error for a platform that has no binary of the server."""
    return CannotStart(
        f"{title}: no server binary for this platform; set {variable} to a server of yours"
    )
