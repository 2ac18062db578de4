"""Projects that other templates generate from PyPI, and a Litestar app, beside the service.

Each gets notes and counters in its own idiom, from `contenders/peers/`, on the table and the keys
of the service, and runs by its own production command: that of the Dockerfile of each template,
uvicorn for Litestar. All run on the Python of this environment, without the development tools.

Not here, because they are no packages on PyPI: full-stack-fastapi-template and litestar-fullstack.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from harness import run, uv
from uv import find_uv_bin

from benchmarks.contender import Contender

FASTAPI_TEMPLATE = "fastapi-template==6.1.2"
FASTAPI_FULLSTACK = "fastapi-fullstack==0.2.21"
LITESTAR = ["litestar==2.25.0", "advanced-alchemy==1.12.0"]

NOTES = Path(__file__).parent / "contenders" / "peers"


def peers(folder: Path, environment: dict[str, str]) -> dict[str, Contender]:
    """Generate and install all of them in a folder, for the servers of an environment."""
    postgres, redis = (urlsplit(environment[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    database, number = postgres.path.removeprefix("/"), redis.path.removeprefix("/") or "0"
    return {
        "fastapi_template": fastapi_template(
            folder,
            {
                "NOTES_TEMPLATE_RELOAD": "false",
                "NOTES_TEMPLATE_ENVIRONMENT": "prod",
                "NOTES_TEMPLATE_DB_HOST": str(postgres.hostname),
                "NOTES_TEMPLATE_DB_PORT": str(postgres.port),
                "NOTES_TEMPLATE_DB_USER": str(postgres.username),
                "NOTES_TEMPLATE_DB_PASS": postgres.password or "",
                "NOTES_TEMPLATE_DB_BASE": database,
                "NOTES_TEMPLATE_REDIS_HOST": str(redis.hostname),
                "NOTES_TEMPLATE_REDIS_PORT": str(redis.port),
                "NOTES_TEMPLATE_REDIS_PASS": redis.password or "",
                "NOTES_TEMPLATE_REDIS_BASE": number,
            },
        ),
        "fastapi-fullstack": fastapi_fullstack(
            folder,
            {
                "ENVIRONMENT": "production",
                "SECRET_KEY": "only-for-this-benchmark-" + "x" * 20,
                "API_KEY": "only-for-this-benchmark",
                "POSTGRES_HOST": str(postgres.hostname),
                "POSTGRES_PORT": str(postgres.port),
                "POSTGRES_USER": str(postgres.username),
                "POSTGRES_PASSWORD": postgres.password or "",
                "POSTGRES_DB": database,
                "REDIS_HOST": str(redis.hostname),
                "REDIS_PORT": str(redis.port),
                "REDIS_PASSWORD": redis.password or "",
                "REDIS_DB": number,
            },
        ),
        "Litestar, Advanced Alchemy": litestar(folder),
    }


def fastapi_template(folder: Path, variables: dict[str, str]) -> Contender:
    """Return a project of fastapi_template: REST, PostgreSQL by SQLAlchemy, Redis, gunicorn."""
    generate(
        FASTAPI_TEMPLATE,
        *("fastapi_template", "--quiet", "--name", "notes_template", "--api-type", "rest"),
        *("--db", "postgresql", "--orm", "sqlalchemy", "--ci", "none"),
        *("--migrations", "--redis", "--gunicorn", "--dummy", "--routers"),
        folder=folder,
    )
    project = folder / "notes_template"
    # Its .env is for development.
    (project / ".env").unlink()
    api = project / "notes_template" / "web" / "api"
    shutil.copy(NOTES / "fastapi_template_notes.py", api / "notes.py")
    with (api / "router.py").open("a") as router:
        router.write("\nfrom notes_template.web.api import notes\n")
        router.write("api_router.include_router(notes.router)\n")
    python = install(project, "--requirements", "pyproject.toml")
    command = f"env NOTES_TEMPLATE_PORT={{port}} {python} -m notes_template"
    return Contender(command, project, variables, prefix="/api")


def fastapi_fullstack(folder: Path, variables: dict[str, str]) -> Contender:
    """Return a project of fastapi-fullstack: PostgreSQL by SQLAlchemy and Redis, no AI."""
    generate(
        FASTAPI_FULLSTACK,
        *("fastapi-fullstack", "create", "notes_fullstack", "--database", "postgresql"),
        *("--orm", "sqlalchemy", "--redis", "--example-resource", "--no-logfire"),
        *("--ai-framework", "none", "--frontend", "none", "--ci", "none"),
        *("--reverse-proxy", "none", "--no-env"),
        folder=folder,
    )
    project = folder / "notes_fullstack" / "backend"
    routes = project / "app" / "api" / "routes" / "v1"
    shutil.copy(NOTES / "fastapi_fullstack_notes.py", routes / "notes.py")
    with (routes / "__init__.py").open("a") as router:
        router.write(
            "\nfrom app.api.routes.v1 import notes\n\nv1_router.include_router(notes.router)\n"
        )
    python = install(project, "--requirements", "pyproject.toml")
    command = f"{python} -m cli.commands server run --host 127.0.0.1 --port {{port}}"
    return Contender(command, project, variables, prefix="/api/v1")


def litestar(folder: Path) -> Contender:
    """Return an app of Litestar."""
    project = folder / "litestar"
    project.mkdir()
    shutil.copy(NOTES / "litestar_app.py", project / "app.py")
    python = install(project, *LITESTAR, "asyncpg", "pydantic", "redis", "uvicorn[standard]")
    return Contender(f"{python} -m uvicorn app:app --port {{port}}", project)


def generate(package: str, program: str, *arguments: str, folder: Path) -> None:
    """Run a generator from an environment of its own."""
    python = install(folder / f"generator-{program}", package)
    run(
        python.with_name(program),
        *arguments,
        cwd=folder,
        # They want uv, and may not fetch another Python.
        env={
            "PATH": f"{Path(find_uv_bin()).parent}:{os.environ['PATH']}",
            "UV_PYTHON_DOWNLOADS": "never",
        },
    )


def install(project: Path, *packages: str) -> Path:
    """Install packages for a project, and return its Python."""
    project.mkdir(exist_ok=True)
    uv("venv", "--quiet", "--clear", cwd=project)
    python = project / ".venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, *packages, cwd=project)
    return python
