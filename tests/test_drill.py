"""The drill, on this working tree. `drill/` says what it does."""

from pathlib import Path

import pytest
from drill.report import broken, table
from drill.run import drill

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_drill(open_path: Path) -> None:
    """The service keeps every bound, whatever goes wrong around it."""
    seen = drill(open_path)

    assert not broken(seen), f"{broken(seen)}\n{table(seen)}"
