"""The drill, on the template as it stands here; `drill/` says what it does."""

from pathlib import Path

import pytest
from drill.report import broken, table
from drill.run import drill


@pytest.mark.slow
def test_drill(tmp_path: Path) -> None:
    """Every bound is kept, whatever goes wrong around the service."""
    seen = drill(tmp_path)

    assert not broken(seen), table(seen)
