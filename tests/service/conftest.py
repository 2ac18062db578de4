"""Fixtures of these tests, beside those of the service itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from orders.core import logs
from quart import Quart

from .process import Process

Lines: TypeAlias = list[dict[str, Any]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[], Awaitable[Lines]]:
    """Return a function that returns the lines logged since its last call."""

    async def read() -> Lines:
        await asyncio.to_thread(logs.background_handler().flush)
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every account can reach: there, a server finds its data again."""
    with TemporaryDirectory(prefix="service-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def serve(create_app: Callable[[], Quart], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that starts the service in a process of its own: see Process."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Process(tmp_path, *args, **options))
