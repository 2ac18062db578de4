"""Fixtures of all tests."""

import shutil
from collections.abc import Iterator

import pytest
from harness import template


@pytest.fixture(scope="session", autouse=True)
def _remove_template() -> Iterator[None]:
    """Remove the copy of the template that the tests have made."""
    yield
    if template.cache_info().currsize:
        shutil.rmtree(template())
