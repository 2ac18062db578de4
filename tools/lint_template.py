"""Lint, format and type-check the template by the rules of the services that it generates.

Plain Python files are checked in place, so that the messages name them. Types are checked in a
service with everything, which stays in .cache/ with its packages.
"""

import os
import shutil
import sys
from pathlib import Path
from subprocess import run

from harness import ROOT, all_features, clean_environment, generate, template
from ruff import find_ruff_bin  # type: ignore[import-untyped]
from uv import find_uv_bin

SERVICE = ROOT / ".cache" / "service"


def render() -> None:
    """Generate the service anew, around its virtual environment."""
    SERVICE.mkdir(parents=True, exist_ok=True)
    for path in SERVICE.iterdir():
        if path.name not in {".venv", "uv.lock", ".mypy_cache"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    fresh = SERVICE.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    generate(fresh, features=all_features())
    shutil.copytree(fresh, SERVICE, dirs_exist_ok=True)
    shutil.rmtree(fresh)
    shutil.rmtree(template())


def passes(*command: str | Path, cwd: Path) -> bool:
    """Run a command and return whether it succeeded."""
    environment = clean_environment() | {"UV_PYTHON": sys.executable}
    words = [os.fspath(part) for part in command]
    return run(words, cwd=cwd, env=environment, check=False).returncode == 0


def main() -> int:
    """Run all checks, also after one has failed."""
    render()
    ruff, rules = find_ruff_bin(), ("--config", SERVICE / "pyproject.toml", "--no-cache")
    results = [
        passes(ruff, "check", *rules, ".", cwd=ROOT / "template"),
        passes(ruff, "format", "--check", *rules, ".", cwd=ROOT / "template"),
        passes(find_uv_bin(), "run", "--quiet", "mypy", cwd=SERVICE),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
