"""Holds one server process, and stops it when the program that asked for it is gone.

    python -I -S supervisor.py STOP_SIGNAL UID:GID SCRAP COMMAND...

It runs as a program of its own, and its standard input is a pipe from the program that asked for
the server. Anything read from there, or its end, means: stop. The operating system closes the pipe
even after SIGKILL, so no server outlives its program.

STOP_SIGNAL is the number of the signal that the server takes as a request to end. UID:GID is the
account to run it as, or "-" for the present one. SCRAP is a folder to delete after a stop that was
asked for, or "-". The supervisor writes the process id of the server to its standard output; what
the server itself writes goes to the standard error. It ends with the server's exit code.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

GRACE = 10
"""Seconds between the request to end and SIGKILL."""

POSIX = os.name == "posix"


def main(stop_signal: int, account: str, scrap: str, command: list[str]) -> int:
    """Run the command until it ends or is to be stopped, and return its exit code."""
    uid, _, gid = account.partition(":")
    server = subprocess.Popen(  # noqa: S603 - the command comes from the program that asked
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=int(uid) if gid else None,
        group=int(gid) if gid else None,
        extra_groups=[] if gid else None,
        process_group=0 if POSIX else None,
    )
    print(server.pid, flush=True)

    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    threading.Thread(target=await_parent, args=(asked,), daemon=True).start()
    threading.Thread(target=stop, args=(server.pid, stop_signal, asked), daemon=True).start()

    code = server.wait()
    if POSIX:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
    if asked.is_set() and scrap != "-":
        shutil.rmtree(scrap, ignore_errors=True)
    return code if code >= 0 else 128 - code


def await_parent(asked: threading.Event) -> None:
    """Wait until the parent says something, or is gone."""
    os.read(sys.stdin.fileno(), 1)
    asked.set()


def stop(pid: int, stop_signal: int, asked: threading.Event) -> None:
    """Once asked to, end the server, by force if it takes too long."""
    asked.wait()
    if not POSIX:
        kill_tree = ["taskkill", "/T", "/F", "/PID", str(pid)]
        subprocess.run(kill_tree, check=False, capture_output=True)  # noqa: S603
        return
    members = family(pid)
    send(stop_signal, [pid])
    # A frozen process cannot obey before it is thawed.
    send(signal.SIGCONT, members)
    time.sleep(GRACE)
    send(signal.SIGKILL, family(pid))


def family(pid: int) -> list[int]:
    """Return the process and its children.

    Its group would not do: processes of a server may have left it.
    """
    if sys.platform == "linux":
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            children = ""
    else:
        list_children = ["pgrep", "-P", str(pid)]
        children = subprocess.run(  # noqa: S603
            list_children, check=False, capture_output=True, text=True
        ).stdout
    return [pid, *map(int, children.split())]


def send(number: int, pids: list[int]) -> None:
    """Send a signal to processes, of which some may have ended already."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
