"""The servers that development and tests start.

`Server` is a process with a URL. `Servers` starts all servers that are missing, in the background:

    with Servers(SERVERS, directory, durable=False) as servers:
        ...
        urls = servers.urls()  # waits until all are ready
"""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"

DATA = Path(__file__).resolve().parent.parent / ".dev"
RUNNING = DATA / "running"
"""Locked by a running `uv run -m dev`. It holds the URLs of its servers."""

PACKAGES = Path(sysconfig.get_path("platlib"))
"""The installed packages, some of which hold a server."""

START_TIMEOUT = 30.0
"""Seconds until a server must be ready, and until an earlier one must have stopped."""

GRACE = 10
"""Seconds that a server may take to stop."""

POLL_EVERY = 0.02

STOP = """
    read _
    kill -{number} {pid}; kill -CONT {pid}; pkill -CONT -P {pid}
    for _ in $(seq {grace}); do sleep 1; kill -0 {pid} || exit; done
    kill -KILL {pid}
"""
"""What a shell does for a server when its input ends, because their owner is gone."""


class CannotStart(SystemExit):
    """A server cannot be started. The message says why, and what to do."""


class Server:
    """A server on 127.0.0.1. It ends with the process that started it, even by SIGKILL."""

    def __init__(
        self,
        command: Sequence[str | Path],
        ask: Callable[[str], object],
        *,
        url: str,
        log: IO[bytes],
        stop_signal: int = signal.SIGTERM,
        **options: Any,
    ) -> None:
        """Start a server and wait until it is ready. Raises CannotStart.

        ask: is called with the URL, and raises any exception as long as the server is not ready.
        options: for `subprocess.Popen`.
        """
        self.url, self.port = url, urlsplit(url).port or 0
        self._stop_signal = stop_signal
        options |= {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        # A Ctrl-C of the terminal is for the owner only.
        options["start_new_session"] = True
        try:
            self._process = subprocess.Popen(command, **options)
        except OSError as error:
            raise CannotStart(described(f"cannot start: {error}", log)) from error
        stop = STOP.format(pid=self._process.pid, number=int(stop_signal), grace=GRACE)
        self._heir = subprocess.Popen(
            ["sh", "-c", stop],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        problem = "is not ready"
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                problem = f"ended with exit code {self._process.returncode}"
                break
            try:
                # Clients often wait long before they try again.
                socket.create_connection((HOST, self.port), timeout=1).close()
                ask(url)
                return
            except Exception as error:
                problem = f"is not ready: {error!r}"
                time.sleep(POLL_EVERY)
        self.stop()
        raise CannotStart(described(problem, log))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server, by force after GRACE. A second call does nothing."""
        self._process.send_signal(self._stop_signal)
        # A halted process obeys only after it goes on.
        self.thaw()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        self._send(signal.SIGKILL)
        self._process.wait()
        self._heir.kill()
        self._heir.communicate()

    def freeze(self) -> None:
        """Halt the server until `thaw()`: connections stay open, without answers."""
        # A halted parent starts no more children.
        self._process.send_signal(signal.SIGSTOP)
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """End a `freeze()`."""
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        """Send a signal to the server and its descendants, if it runs."""
        if self._process.poll() is None:
            for pid in family(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def described(problem: str, log: IO[bytes]) -> str:
    """Return a message about a server that cannot start, with the end of its log."""
    path = Path(log.name)
    line = f"dev: {path.stem} {problem}. You can set the URL of another server: see .env.example."
    return "\n  ".join([line, *path.read_text(errors="replace").splitlines()[-12:]])


class DevServer(Protocol):
    """What a module of this package offers for one kind of server.

    A module may also have a function `adapt(url=None)`. It removes environment variables that
    mislead the clients of the server. With a URL, it sets those that command-line clients need.
    """

    NAME: str
    TITLE: str
    VARIABLE: str
    """The environment variable with the URL."""

    def start(self, directory: Path, *, durable: bool, port: int | None = None) -> Server:
        """Start a server with its data in the directory, and return it once it is ready.

        durable: keep data safe, at the price of speed. port: None means a free one.
        Raises CannotStart.
        """

    def prepare(self, url: str, /) -> None:
        """Bring the server into the state that the service expects. Raises CannotStart."""

    def scratch(self, url: str, name: str, /) -> AbstractContextManager[str]:
        """Lend the URL of an empty database on the server, and drop it at the end.

        name: a name that no other database has.
        """


class Servers:
    """The servers of a project: configured ones, those of a running `uv run -m dev`, or new ones.

    New servers start in threads at once.
    """

    def __init__(self, kinds: Sequence[DevServer], directory: Path, *, durable: bool) -> None:
        """Start what is missing; directory and durable as for `DevServer.start`."""
        running = urls_of_running() or {}
        self._urls = {name: url for name, url in running.items() if not os.environ.get(name)}
        self._starting: dict[str, Future[Server]] = {}
        pool = ThreadPoolExecutor()
        for kind in kinds:
            if url := os.environ.get(kind.VARIABLE):
                self._urls[kind.VARIABLE] = url
                continue
            if adapt := getattr(kind, "adapt", None):
                adapt()
            if kind.VARIABLE not in self._urls:
                start = pool.submit(kind.start, directory / kind.NAME, durable=durable)
                self._starting[kind.VARIABLE] = start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the new servers, side by side."""
        started = [start.result() for start in self._starting.values() if not start.exception()]
        with ThreadPoolExecutor() as pool:
            pool.map(Server.stop, started)

    def url(self, kind: DevServer) -> str:
        """Wait until one server is ready, and return its URL. Raises CannotStart."""
        starting = self._starting.get(kind.VARIABLE)
        return starting.result().url if starting else self._urls[kind.VARIABLE]

    def urls(self) -> dict[str, str]:
        """Wait for all servers, and return their URLs by variable. Raises CannotStart.

        Everything that a running `uv run -m dev` publishes is among them.
        """
        return self._urls | self.new()

    def new(self) -> dict[str, str]:
        """Wait for the new servers, and return their URLs by variable. Raises CannotStart."""
        return {variable: start.result().url for variable, start in self._starting.items()}


@contextmanager
def only_one(*, or_share: bool = False) -> Iterator[Callable[[dict[str, str]], None]]:
    """Hold the lock of this project; lends a function that publishes the URLs of new servers.

    Raises CannotStart when another process holds the lock. or_share: instead, wait until that
    process has published its URLs. There is nothing to publish then.
    """
    DATA.mkdir(exist_ok=True)
    RUNNING.touch(mode=0o600)
    with RUNNING.open("r+", encoding="utf-8") as file:
        while not try_lock(file):
            if not or_share:
                raise CannotStart("dev: already running in this directory")
            if urls_of_running() is not None:
                yield lambda _urls: None
                return
            time.sleep(POLL_EVERY)
        file.truncate()

        def publish(urls: dict[str, str]) -> None:
            json.dump(urls, file)
            file.flush()

        yield publish


def urls_of_running() -> dict[str, str] | None:
    """Return the URLs that a running `uv run -m dev` publishes. None means that none does yet."""
    with suppress(OSError, ValueError), RUNNING.open(encoding="utf-8") as file:
        if not try_lock(file, shared=True):
            urls: dict[str, str] = json.load(file)
            return urls
    return None


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file; returns False when another process holds it.

    Processes that inherit the open file hold the lock, too.
    """
    if sys.platform == "win32":
        raise CannotStart("dev: servers start on Linux and macOS only. Set the variables of yours.")
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    return True


@contextmanager
def claimed(log: Path) -> Iterator[IO[bytes]]:
    """Make the folder of a log, and open the log as the only user of the folder.

    A server inherits the open log, and the lock with it. So the next start waits until the last
    process of an earlier server has ended. Raises CannotStart when that takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + START_TIMEOUT
    with log.open("ab") as file:
        while not try_lock(file):
            if time.monotonic() > deadline:
                raise CannotStart(f"dev: another process uses {log.parent}")
            time.sleep(POLL_EVERY)
        file.truncate(0)
        yield file


def find_program(pattern: str) -> Path:
    """Return the path of a program in PACKAGES, else its name, to be found on PATH."""
    return next(PACKAGES.glob(pattern), Path(Path(pattern).name))


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """Return a process and its descendants. Some may have left its process group."""
    if sys.platform == "linux":
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            children = ""
    else:
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
        children = found.stdout
    return [pid, *(each for child in children.split() for each in family(int(child)))]
