"""As somebody who is not root: what the other tests do as root, where root runs them."""

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import generate, interpreters, open_folder, processes_of, run, uv
from running import ask, dev, free_port, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]

AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


def is_open(path: Path) -> bool:
    """Return whether every account can reach a path."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (resolved, *resolved.parents))


@pytest.fixture
def project() -> Iterator[Path]:
    """Return an installed service with all backends that belongs to an ordinary user."""
    python = next((path for _, path in interpreters() if is_open(path)), None)
    if python is None:
        pytest.skip("every Python of this machine is in a folder that is closed to others")
    with open_folder() as folder:
        project = generate(folder / "orders")
        uv("sync", "--quiet", "--link-mode=copy", cwd=project, env={"UV_PYTHON": str(python)})
        (folder / "home").mkdir()
        run("chown", "-R", "nobody", project, folder / "home", cwd=folder)
        yield project


def test_an_ordinary_user_needs_nothing_else(project: Path) -> None:
    """The tests and the development run, on servers that start for them, too."""
    home = str(project.parent / "home")
    variables = {"HOME": home, "TMPDIR": home}

    tested = run(
        *(*AS_NOBODY, project / ".venv" / "bin" / "python"),
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        cwd=project,
        env=variables,
    )
    port = free_port()
    with dev(project, "--port", str(port), prefix=AS_NOBODY, **variables) as process:
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 30)
        owners = {path.owner() for path in (project / ".dev").iterdir()}
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=15)

    assert re.search(r"\d+ passed", tested.output)
    assert owners == {"nobody"}
    assert "Traceback" not in output
    assert processes_of(project) == []
