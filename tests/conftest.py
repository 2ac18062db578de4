"""Fixtures of all tests."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import open_folder, template

MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there is removed, and holds no secret


# A shell that runs the tests in the background has them ignore SIGINT, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _remove_template() -> Iterator[None]:
    """Remove the copy of the template that the tests have made."""
    template()
    yield
    shutil.rmtree(template())


@pytest.fixture(scope="session", autouse=True)
def _share_what_mypy_knows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let mypy read each library once, and not for each project; it compares their contents."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MYPY_CACHE_DIR", str(tmp_path_factory.mktemp("mypy")))
        yield


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a temporary folder that every account can reach."""
    with open_folder() as folder:
        yield folder


@pytest.fixture
def workbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a temporary folder in memory, where there is such a thing, and have Copier use it.

    An update writes thousands of small files; in memory it takes half the time.
    """
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="copier-quart-", dir=MEMORY) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
