"""What the tests share: the template as it stands here, projects made from it, their commands."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from copier import Settings, run_copy, run_update
from jinja2 import Environment
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent

URLS = {
    "postgres": ("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none"),
    "mongo": ("MONGODB_URI", "mongodb://127.0.0.1:1/none"),
    "redis": ("REDIS_URL", "redis://127.0.0.1:1/0"),
    "http": ("UPSTREAM_URL", "http://127.0.0.1:1"),
}
"""The variable of each backend, and an address at which nobody is."""

BACKENDS = tuple(URLS)

FEATURES = ("examples", "container", "tracing", "kubernetes", "auth")
"""The features that need no backend."""

MODELS, JOBS = "models", "jobs"
"""The features that need a database, and Redis."""

LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary")


class Mix(NamedTuple):
    """A choice of the answers that are no backends."""

    ci: str
    license: str
    features: tuple[str, ...]

    def __str__(self) -> str:
        """Return a name for test ids."""
        return "-".join([*self.features, self.ci, self.license]).lower()


MIXES = [
    Mix("github", "MIT", ("examples", "container")),
    Mix("github", "Apache-2.0", ("examples",)),
    Mix("github", "BSD-3-Clause", ("container", "tracing", "kubernetes")),
    Mix("github", "Proprietary", ("examples", "tracing", "auth")),
    Mix("gitlab", "MIT", ()),
    Mix("gitlab", "Apache-2.0", ("examples", "container", "tracing", "kubernetes", "auth")),
    Mix("gitlab", "BSD-3-Clause", ("container", "tracing", "auth")),
    Mix("gitlab", "Proprietary", ("tracing",)),
    Mix("none", "MIT", ("container", "tracing", "kubernetes", "auth")),
    Mix("none", "Apache-2.0", ("container",)),
    Mix("none", "BSD-3-Clause", ("examples",)),
    Mix("none", "Proprietary", ("container", "kubernetes", "auth")),
    Mix("none", "MIT", (JOBS,)),
    Mix("github", "MIT", (*FEATURES, MODELS, JOBS)),
]
"""Each value of each of these answers with each value of every other; the first is the default.

`jobs`, which needs Redis, is in the last two: alone, and with everything.
"""

NOTHING = Mix("gitlab", "MIT", ())
"""The one without features."""

SUBSETS: list[list[str]] = [
    list(subset) for size in range(len(BACKENDS) + 1) for subset in combinations(BACKENDS, size)
]
"""All 16 choices of backends."""

DATABASES = [subset for subset in SUBSETS if {"postgres", "mongo"} & set(subset)]
"""The choices with a database, which the feature `models` needs."""

MODELED = [
    Mix("github", "MIT", ("examples", "container", MODELS)),
    Mix("none", "MIT", ("tracing", MODELS)),
]
"""Mixes with models, with examples and without."""

VERSION = "999.0.0"
"""The version under which the working tree is offered to updates."""

GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "gc.auto=0")


def all_features(backends: Sequence[str] = BACKENDS) -> list[str]:
    """Return the features that a service with these backends can have."""
    has_database = {"postgres", "mongo"} & set(backends)
    return [
        *FEATURES,
        *([MODELS] if has_database else []),
        *([JOBS] if "redis" in backends else []),
    ]


def name_of(backends: Sequence[str]) -> str:
    """Return a name for a choice of backends, for test ids and folders."""
    return "-".join(backends) or "none"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and everything it printed."""

    code: int
    output: str


def run(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 300,
) -> Outcome:
    """Run a command in a folder; env: variables besides the present ones; timeout: in seconds.

    Raises AssertionError with the whole output when it fails, unless `check` is off.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment() | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} in {cwd}:\n{done.stdout}")
    return Outcome(done.returncode, done.stdout)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would leak from this run into a project's.

    Python may keep what it has compiled, as it does for users, even where the environment of this
    run forbids it: else each process would compile all of its libraries anew.
    """
    unwanted = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", *dict(URLS.values()))
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith(("PYTEST_", "UV_PROJECT"))
    }


def git(*arguments: str | Path, cwd: Path) -> str:
    """Run git and return what it prints."""
    return run(*GIT, *arguments, cwd=cwd).output.strip()


def commit_all(project: Path, message: str = "Change") -> None:
    """Commit everything in a folder, which becomes a repository if it is none."""
    if not (project / ".git").exists():
        git("init", "-q", "-b", "main", cwd=project)
    git("add", "-A", cwd=project)
    git("commit", "-q", "--allow-empty", "-m", message, cwd=project)


@cache
def memory() -> Path | None:
    """Return a folder in memory, if there is such a thing, where many small files are soon made."""
    folder = Path("/dev/shm")  # noqa: S108 - what is made there is removed, and holds no secret
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else None


@cache
def template() -> Path:
    """Return a repository with the template as it stands here, committed and tagged."""
    folder = Path(tempfile.mkdtemp(prefix="copier-quart-", dir=memory()))
    folder.chmod(0o755)
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    commit_all(folder, "The working tree")
    git("tag", VERSION, cwd=folder)
    # Each update clones it five times: one file of git's is cloned sooner than hundreds.
    git("gc", "-q", cwd=folder)
    return folder


def clone_from_address(folder: Path) -> str:
    """Serve the template from an address, clone it to `copier-quart`, and return the address."""
    served = folder / "served" / "copier-quart.git"
    git("clone", "-q", "--bare", template(), served, cwd=folder)
    git("clone", "-q", served.as_uri(), folder / "copier-quart", cwd=folder)
    return served.as_uri()


def generate(
    target: Path, backends: Sequence[str] = BACKENDS, *, commit: bool = False, **answers: Any
) -> Path:
    """Generate a project with the answers, without trusting the template, and return its folder."""
    generate_with(target, {"backends": list(backends), **answers})
    if commit:
        commit_all(target, "Generate")
    return target


def generate_with(target: Path, answers: Mapping[str, Any]) -> None:
    """Generate a project with the answers, whatever they are; raises what Copier raises."""
    run_copy(
        str(template()),
        target,
        data={"project_name": "Orders", **answers},
        defaults=True,
        quiet=True,
        unsafe=False,
        settings=Settings(),
    )


def register(project: Path, *modules: str) -> None:
    """List the blueprints of modules in `blueprints/`, where comments say so."""
    registry = project / "src" / "orders" / "blueprints" / "__init__.py"
    text = registry.read_text()
    for old, new in (
        (IMPORT_HERE, f"{IMPORT_HERE}from . import {', '.join(sorted(modules))}\n"),
        (LIST_HERE, LIST_HERE + "".join(f"    {module}.blueprint,\n" for module in modules)),
    ):
        assert old in text
        text = text.replace(old, new)
    registry.write_text(text)


IMPORT_HERE = "# Yours, for example: from . import invoices\n"
LIST_HERE = "    # Yours, for example: invoices.blueprint,\n"


def size_of(project: Path) -> tuple[int, int]:
    """Return how many files a project has, and how many lines."""
    files = files_of(project)
    return len(files), sum(content.count(b"\n") for content in files.values())


@contextmanager
def open_folder() -> Iterator[Path]:
    """Lend a temporary folder that every account can reach, for as long as it is there.

    As root, PostgreSQL's files otherwise go elsewhere, as it does not run as root. pytest's own
    folders will not do: each run of pytest closes the one above them to others, for all runs.
    """
    with tempfile.TemporaryDirectory(prefix="copier-quart-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def processes_of(project: Path) -> list[str]:
    """Return the command lines of all servers that run for a project."""
    servers = ("postgres", "mongod", "valkey-server", "uvicorn")
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [
        line for line in lines if str(project) in line and any(name in line for name in servers)
    ]


@cache
def interpreters() -> list[tuple[str, Path]]:
    """Return all Pythons from 3.11 on that this machine has, with their versions, as "3.12".

    uv does not look into pyenv's folders by itself.
    """
    of_uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python"
    candidates = [
        *sorted(Path.home().glob(".pyenv/versions/3.*/bin/python")),
        *sorted(Path(of_uv).glob("cpython-3.*/bin/python")),
        *(Path(folder) / f"python3.{minor}" for folder in os.get_exec_path() for minor in MINORS),
        Path(sys.executable),
    ]
    found = []
    for candidate in filter(Path.exists, candidates):
        asked = run(candidate, "-c", ASK_VERSION, cwd=ROOT, check=False)
        major, _, minor = asked.output.strip().partition(".")
        if asked.code == 0 and major == "3" and int(minor) in MINORS:
            found.append((asked.output.strip(), candidate))
    return found


MINORS = range(11, 20)
ASK_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def pythons() -> dict[str, Path]:
    """Return an interpreter of each version."""
    versions: dict[str, Path] = {}
    for version, path in interpreters():
        versions.setdefault(version, path)
    return versions


def files_of(project: Path) -> dict[str, bytes]:
    """Return the content of every file of a project, without what git and tools keep there."""
    listed = (path for path in project.rglob("*") if path.is_file())
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in listed
        if not {".git", ".venv", "__pycache__", ".ruff_cache", ".mypy_cache"}
        & set(path.relative_to(project).parts)
    }


def update(project: Path, **answers: Any) -> None:
    """Update a project to the template as it stands here, with changed answers; no trust needed."""
    run_update(
        project,
        data=answers,
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
        settings=Settings(),
    )


def answers_of(project: Path) -> dict[str, Any]:
    """Return the recorded answers of a project."""
    answers: dict[str, Any] = yaml.safe_load((project / ".copier-answers.yml").read_text())
    return answers


def words_of(question: Mapping[str, Any]) -> str:
    """Return a question of `copier.yml` as a copy asks it."""
    return Environment(autoescape=False).from_string(question["help"]).render()  # noqa: S701 - text


def copier(*arguments: str | Path, cwd: Path, check: bool = True) -> Outcome:
    """Run the command line as users do; its temporary files go where those of the test go."""
    env = {"TMPDIR": tempfile.gettempdir()}
    return run(sys.executable, "-m", "copier", *arguments, cwd=cwd, check=check, env=env)


def uv(*arguments: str | Path, cwd: Path, check: bool = True, **options: Any) -> Outcome:
    """Run uv in a project, on the Python that runs this."""
    env = {"UV_PYTHON": sys.executable, **options.pop("env", {})}
    return run(find_uv_bin(), *arguments, cwd=cwd, check=check, env=env, **options)
