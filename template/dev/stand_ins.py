"""Stand-ins for other web services, for development and tests. They have no data."""

import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from aiohttp import web

HOST = "127.0.0.1"


class StandIn(Protocol):
    """What a module of this package offers for one stand-in."""

    TITLE: str
    VARIABLE: str
    """The environment variable with the URL."""

    def application(self, url: str, /) -> web.Application:
        """Return the application that serves at a URL."""


def start(kinds: Iterable[StandIn]) -> dict[str, str]:
    """Start the stand-ins whose variables are not set, and return their URLs by variable.

    Each serves in a thread until this process ends.
    """
    missing = [kind for kind in kinds if not os.environ.get(kind.VARIABLE)]
    return {kind.VARIABLE: _serve(kind.application) for kind in missing}


def _serve(application: Callable[[str], web.Application]) -> str:
    listener = socket.create_server((HOST, 0))
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    threading.Thread(
        target=web.run_app,
        args=[application(url)],
        kwargs={"sock": listener, "handle_signals": False, "print": None, "access_log": None},
        daemon=True,
    ).start()
    return url
