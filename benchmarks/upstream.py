"""What changes in Quart and quart-schema would save of a request: `make bench UPSTREAM=1`."""

import tempfile
from pathlib import Path

from harness import generate, run, uv


def main() -> None:
    """Run the measurement with the libraries of a new service."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        project = generate(Path(name) / "orders", backends=[], features=[])
        uv("sync", "--quiet", cwd=project)
        program = Path(__file__).with_name("contenders") / "upstream.py"
        print(run(project / ".venv" / "bin" / "python", program, cwd=project).output)


if __name__ == "__main__":
    main()
