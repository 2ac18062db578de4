"""A service does what its OpenAPI document says, whatever a client sends."""

import re
from pathlib import Path

import pytest
from harness import BACKENDS, generate, name_of, uv
from running import ask, dev, free_port, wait_for

SCHEMATHESIS = "schemathesis~=4.32"

CONFIG = """
[generation]
allow-extra-parameters = false
"""
"""Unknown parameters in a query string are ignored, and schemathesis must not expect a 4xx."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("backends", "features"),
    [
        pytest.param([], [], id="none-without-examples"),
        pytest.param(list(BACKENDS), ["examples"], id=name_of(BACKENDS)),
    ],
)
def test_a_service_does_what_its_description_says(
    backends: list[str], features: list[str], tmp_path: Path
) -> None:
    """No 5xx, no status and no content that is not described: all checks of schemathesis."""
    project = generate(tmp_path / "orders", backends, features=features)
    uv("sync", "--quiet", cwd=project)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    port = free_port()
    # What is logged is not read, and must not fill the pipe.
    with dev(project, "--port", str(port), LOG_LEVEL="ERROR"):
        wait_for(lambda: ask(port, "/health/ready")[0] == 200, 60)
        found = uv(
            *("tool", "run", "--quiet", "--from", SCHEMATHESIS, "schemathesis", "run"),
            *("--checks", "all", "--max-examples", "60", "--seed", "1", "--no-color"),
            f"http://127.0.0.1:{port}/openapi.json",
            cwd=tmp_path,
        )

    tested_operations = re.search(r"(\d+) selected / (\d+) total", found.output)
    assert tested_operations
    assert tested_operations.groups() == (("14",) * 2 if backends else ("2",) * 2), found.output
