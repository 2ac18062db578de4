"""Finds a server's program, in a package or on the system, and keeps the password it gets."""

import os
import secrets
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from dev.server import START_TIMEOUT, CannotStart


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


def secret(path: Path) -> str:
    """Return the password that a file holds; make the file, for its owner only, if need be."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16))
    return path.read_text()
