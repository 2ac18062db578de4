"""Fixtures of these tests, beside those of the service itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
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
    """Return a folder where a server finds its data again."""
    with TemporaryDirectory(prefix="service-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    """Return a process that the tests of a module share, with its ENDPOINTS and VARIABLES."""
    if find_spec("dev.server"):
        request.getfixturevalue("databases")
    module = request.module
    with (
        TemporaryDirectory(prefix="service-") as folder,
        Process(Path(folder), module.ENDPOINTS, **module.VARIABLES) as process,
    ):
        yield process


@pytest.fixture
def serve(create_app: Callable[[], Quart], open_folder: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that starts the service in a process of its own: see Process."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Process(open_folder, *args, **options))
