"""Fixtures of all tests."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copier import _main, _subproject
from copier._main import Worker
from copier._template import Template
from harness import memory, open_folder, template
from jinja2 import Environment

# They run inside generated services: see test_services.py.
collect_ignore = ["service"]

# A shell that runs the tests in the background has them ignore SIGINT, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _remove_template() -> Iterator[None]:
    """Remove the copy of the template that the tests have made."""
    template()
    yield
    shutil.rmtree(template())


@pytest.fixture(scope="session", autouse=True)
def _spare_copier_what_it_repeats() -> Iterator[None]:
    """Read and compile the template once, and do not ask git for each file about `core.fileMode`.

    For an update, Copier clones it five times, reads its questions and its version from each clone,
    compiles all of it three times, and renders the name of the answers file for each file: most of
    the time of all updates here. Tests that call the command line have the whole of it.
    """
    read: dict[tuple[Any, ...], Template] = {}

    def read_once(url: str, **options: Any) -> Template:
        if url != str(template()):
            return Template(url, **options)
        key = tuple(options.items())
        if key not in read:
            found = Template(url, **options)
            with pytest.MonkeyPatch.context() as patch:
                # The temporary folder of a test goes with the test.
                patch.setattr(tempfile, "tempdir", str(template().parent))
                found.local_abspath  # noqa: B018 - this clones it
            # What this names is removed after each copy.
            found._temp_clone_path = None
            read[key] = found
        return read[key]

    def plain_name(worker: Worker) -> Path:
        return Path(worker.answers_file or worker.template.answers_relpath)

    compile_template = Environment.compile
    compiled: dict[tuple[Any, ...], Any] = {}

    def compile_once(environment: Environment, source: Any, *rest: Any, **options: Any) -> Any:
        syntax = (environment.block_start_string, environment.variable_start_string)
        key = (source, rest, *options.items(), syntax, environment.keep_trailing_newline)
        if key not in compiled:
            compiled[key] = compile_template(environment, source, *rest, **options)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_main, "Template", read_once)
        patch.setattr(_subproject, "Template", read_once)
        patch.setattr(Worker, "answers_relpath", property(plain_name))
        patch.setattr(Environment, "compile", compile_once)
        patch.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None, raising=False)
        yield
    for found in read.values():
        shutil.rmtree(found.local_abspath)


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
    if memory() is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="copier-quart-", dir=memory()) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
