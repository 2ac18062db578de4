"""Run the drill and print the table. `--write` puts it into benchmarks/results/, too."""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from harness import ROOT, template

from .report import broken, table
from .run import drill


def main() -> int:
    """Return 1 when a bound was not kept."""
    parser = argparse.ArgumentParser(prog="python -m drill", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the results")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name:
            # PostgreSQL does not run as root. It needs access from another account.
            Path(name).chmod(0o711)
            seen = drill(Path(name))
    finally:
        shutil.rmtree(template())
    print(table(seen))
    if arguments.write:
        results = ROOT / "benchmarks" / "results"
        results.mkdir(parents=True, exist_ok=True)
        (results / "drill.md").write_text(table(seen))
        (results / "drill.json").write_text(json.dumps(seen, indent=2) + "\n")
    failures = broken(seen)
    for failure in failures:
        print(f"drill: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
