"""What every service shares. Template updates maintain these modules; you rarely edit them."""

from importlib.metadata import metadata

PROJECT = metadata(__name__.partition(".")[0])
"""The name, version and summary from pyproject.toml."""
