"""Runs Quart's own tests with the connection class of a generated service in place of Quart's.

    .venv/bin/python -m benchmarks.quart_suite [REPOSITORY [COMMIT]]

REPOSITORY: where the tests come from, as Quart's packages have none; COMMIT: that of the tests, or
else the tag of each version. Each version is tested twice, with its own class and with ours; ends
with 1 when a test does not have the same outcome in both.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness import generate, git, pythons, run, uv  # noqa: E402 - the tests' folder is no package

REPOSITORY = "https://github.com/pallets/quart"

VERSIONS = {"0.22.0": "3.11", "0.23.1": "3.13"}
"""Of Quart, and the Python to run it on."""

NEEDS = ["hypothesis", "pytest", "pytest-asyncio", "pytest-timeout"]

PASSED = "passed"

SWAP = '''
import quart.app
import quart.asgi
from orders.serving import Connection


class Swapped(Connection):
    """Ours, without what a service adds to each response."""

    handle_request = quart.asgi.ASGIHTTPConnection.handle_request


quart.Quart.asgi_http_class = quart.app.ASGIHTTPConnection = Swapped
quart.asgi.ASGIHTTPConnection = Swapped
'''


def main() -> int:
    """Test every version, and say what differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quart_suite")
    parser.add_argument("repository", nargs="?", default=REPOSITORY)
    parser.add_argument("commit", nargs="?")
    asked = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory(prefix="quart-") as name:
        folder = Path(name)
        project = generate(folder / "orders", [], features=[])
        (folder / "swap.py").write_text(SWAP)
        git("clone", "--quiet", asked.repository, folder / "quart", cwd=folder)
        for version, python in VERSIONS.items():
            git("checkout", "--quiet", asked.commit or version, cwd=folder / "quart")
            venv = folder / f"venv-{version}"
            uv("venv", "--quiet", "--python", pythons()[python], venv, cwd=folder)
            quart = f"quart[dotenv]=={version}"
            uv("pip", "install", "--quiet", "--python", venv, quart, project, *NEEDS, cwd=folder)
            own, ours = (outcomes(folder, venv, *extra) for extra in ([], ["-p", "swap"]))
            passed = sum(outcome == PASSED for outcome in ours.values())
            changed = [test for test in own if own[test] != ours.get(test)]
            print(f"Quart {version}: {passed} of {len(own)} passed, {len(changed)} not as before")
            for test in changed:
                print(f"  {test}: {own[test]}, now {ours.get(test)}")
            different += len(changed)
    return min(different, 1)


def outcomes(folder: Path, venv: Path, *options: str) -> dict[str, str]:
    """Run the tests, and return how each one ended."""
    report = folder / "report.xml"
    done = run(
        *(venv / "bin" / "python", "-m", "pytest", "--override-ini", "addopts="),
        *("--import-mode", "importlib", "--continue-on-collection-errors", "--timeout=5"),
        *(f"--junitxml={report}", *options),
        cwd=folder / "quart",
        env={"PYTHONPATH": str(folder)},
        check=False,
        timeout=900,
    )
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest has written it
    assert cases, done.output
    return {
        f"{case.get('classname')}.{case.get('name')}": case[0].tag if len(case) else PASSED
        for case in cases
    }


if __name__ == "__main__":
    sys.exit(main())
