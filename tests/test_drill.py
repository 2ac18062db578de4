"""The drill, on the template as it stands here; `drill/` says what it does."""

from pathlib import Path

import pytest
from drill.report import broken, table
from drill.run import drill
from harness import opened

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_drill(tmp_path: Path) -> None:
    """Every bound is kept, whatever goes wrong around the service.

    What else the machine does can delay anything once. A bound is broken when it is in two runs.
    """
    first = drill(opened(tmp_path) / "first")
    if not broken(first):
        return
    second = drill(tmp_path / "second")
    parts = {failure.partition(":")[0] for failure in broken(first)}
    failures = [failure for failure in broken(second) if failure.partition(":")[0] in parts]

    assert not failures, f"{broken(first)}\n{table(first)}\n{broken(second)}\n{table(second)}"
