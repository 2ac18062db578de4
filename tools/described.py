"""Print what a generated service reads and serves, as JSON. `reference.py` runs it in a service."""

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import orders
from orders.app import create_app
from pydantic_settings import BaseSettings  # type: ignore[import-not-found]
from quart_schema.validation import (
    QUART_SCHEMA_QUERYSTRING_ATTRIBUTE,
    QUART_SCHEMA_REQUEST_ATTRIBUTE,
    QUART_SCHEMA_RESPONSE_ATTRIBUTE,
)

UNITS = {"Seconds", "Bytes", "Characters", "Connections", "Calls", "Retries"}
"""First words of the description of a variable that counts something."""

STATUSES = {"health.ready": [200, 503], "notes.delete": [204]}
"""The statuses of endpoints that describe none and have another one than 200."""

ACCESSOR = re.compile(r"\b(\w+)\.(?:pool|database|client|session)\(\)")
"""The use of a backend."""

JOBS = re.compile(r"^from (?:\.\.jobs|\.queue) import", re.MULTILINE)
"""The use of jobs."""


def main() -> None:
    """Print the description."""
    for info in walk_packages(orders.__path__, "orders."):
        import_module(info.name)
    groups = list(settings(BaseSettings))
    print(json.dumps({"groups": groups, "endpoints": list(endpoints())}))


def settings(kind: type[BaseSettings]) -> Iterator[dict[str, Any]]:
    """Yield each class of settings without subclasses, and set what it requires to its example."""
    for subclass in kind.__subclasses__():
        yield from settings(subclass)
    if kind.__subclasses__() or not kind.__module__.startswith("orders."):
        return
    schemas = kind.model_json_schema()["properties"]
    variables = []
    for name, field in kind.model_fields.items():
        prefix = kind.model_config["env_prefix"]
        variable = str(field.validation_alias or f"{prefix}{name}".upper())
        if field.is_required():
            os.environ.setdefault(variable, str((field.examples or [""])[0]))
        words = (field.description or "").split()
        variables.append(
            {
                "name": variable,
                "schema": schemas[field.validation_alias or name],
                "unit": words[0].lower() if words[0] in UNITS else None,
                "required": field.is_required(),
                "default": None if field.is_required() else field.default,
                "meaning": " ".join(words),
            }
        )
    variables.sort(key=lambda variable: not variable["required"])
    yield {"module": kind.__module__, "variables": variables}


def endpoints() -> Iterator[dict[str, Any]]:
    """Yield each endpoint, in the order in which they join the app."""
    app = create_app()
    for rule in app.url_map.iter_rules():
        handler: Any = app.view_functions[rule.endpoint]
        responses = getattr(handler, QUART_SCHEMA_RESPONSE_ATTRIBUTE, {})
        body, _ = getattr(handler, QUART_SCHEMA_REQUEST_ATTRIBUTE, (None, None))
        yield {
            "methods": sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}),
            "path": rule.rule,
            "meaning": handler.__doc__.partition("\n")[0],
            "module": handler.__module__,
            "backends": backends(import_module(handler.__module__)),
            "jobs": bool(JOBS.search(getsource(import_module(handler.__module__)))),
            "body": fields(body),
            "query": fields(getattr(handler, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None)),
            "statuses": sorted(responses) or STATUSES.get(rule.endpoint, [200]),
        }


def backends(module: ModuleType) -> list[str]:
    """Return the backends whose clients a module uses."""
    found = set(ACCESSOR.findall(getsource(module)))
    return [backend.name for backend in orders.backends.BACKENDS if backend.name in found]


def fields(model: Any) -> dict[str, bool]:
    """Return the names of a model's fields, and whether they are required."""
    return (
        {name: field.is_required() for name, field in model.model_fields.items()} if model else {}
    )


if __name__ == "__main__":
    main()
