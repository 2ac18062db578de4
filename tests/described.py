"""Runs in a generated service: prints what it reads and what it serves, as JSON."""

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import orders
from orders.app import create_app

UNITS = {"Seconds", "Bytes", "Characters", "Connections", "Calls"}
"""What the description of a variable begins with, if it counts something."""


def main() -> None:
    """Print the description."""
    groups = list(settings())
    print(json.dumps({"groups": groups, "endpoints": list(endpoints())}))


def settings() -> Iterator[dict[str, Any]]:
    """Yield each class of settings, and set what it requires to its example."""
    for info in walk_packages(orders.__path__, "orders."):
        module = import_module(info.name)
        kind = getattr(module, "Settings", None)
        if kind is None or kind.__module__ != info.name:
            continue
        schemas = kind.model_json_schema()["properties"]
        variables = []
        for name, field in kind.model_fields.items():
            variable = field.validation_alias or f"{kind.model_config['env_prefix']}{name}".upper()
            if field.is_required():
                os.environ.setdefault(variable, field.examples[0])
            first = field.description.split()[0]
            variables.append(
                {
                    "name": variable,
                    "schema": schemas[field.validation_alias or name],
                    "unit": first.lower() if first in UNITS else None,
                    "required": field.is_required(),
                    "default": None if field.is_required() else field.default,
                    "meaning": " ".join(field.description.split()),
                }
            )
        yield {"module": info.name, "variables": variables}


def endpoints() -> Iterator[dict[str, Any]]:
    """Yield each endpoint, in the order in which they join the app."""
    app = create_app()
    for rule in app.url_map.iter_rules():
        handler: Any = app.view_functions[rule.endpoint]
        contract = handler.__dict__.get("contract", {})
        module = import_module(handler.__module__)
        names = [name for name in vars(orders.backends) if name in vars(module)]
        backends = [name for name in names if vars(module)[name] is vars(orders.backends)[name]]
        yield {
            "methods": sorted(rule.methods - {"HEAD", "OPTIONS"}),
            "path": rule.rule,
            "meaning": handler.__doc__.partition("\n")[0],
            "module": handler.__module__,
            "backends": [name for name in backends if hasattr(module.__dict__[name], "BACKEND")],
            "body": fields(contract.get("body")),
            "query": fields(contract.get("query")),
            "statuses": contract.get("statuses", [200]),
        }


def fields(model: Any) -> dict[str, bool]:
    """Return the names of a model's fields, and whether they are required."""
    return (
        {name: field.is_required() for name, field in model.model_fields.items()} if model else {}
    )


if __name__ == "__main__":
    main()
