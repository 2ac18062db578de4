"""What servers and their kinds offer to tests and to the drill: those of `dev/`, and stand-ins."""

from pathlib import Path
from typing import Protocol, Self


class Server(Protocol):
    """A running server, as `dev.server` has it."""

    url: str
    port: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def stop(self) -> None:
        """Stop it in good order."""

    def kill(self) -> None:
        """Let it crash."""

    def freeze(self) -> None:
        """Let it hang."""

    def thaw(self) -> None:
        """Let it go on."""


class Kind(Protocol):
    """A kind of server, as the modules of `dev` are it."""

    NAME: str
    VARIABLE: str

    def start(self, directory: Path, *, durable: bool, port: int | None = None) -> Server:
        """Start a server, and return it once it is ready."""

    def prepare(self, url: str, /) -> None:
        """Bring it into the state that the service expects."""
