"""Print the reference of the guide, made from the sources. `make docs` writes it with `--write`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from harness import (
    BACKENDS,
    ROOT,
    all_features,
    answers_of,
    copier,
    generate,
    template,
    uv,
    words_of,
)

PAGE = ROOT / "docs" / "reference.md"

DESCRIBED = Path(__file__).with_name("described.py")

EXAMPLES = "orders.blueprints."
"""The modules of the examples. A new service has no others there."""

OVERVIEW = "orders.blueprints.examples"
"""The module of the page and of /overview, which use all backends and need none."""

FEATURE_OF = {"issuer": "auth"}
"""Modules in backends/ that belong to a feature."""

FILES = "<any("
"""A part of the path of each file that a page loads."""

INTRODUCTION = """\
# Reference

All questions, environment variables and endpoints. `make docs` makes this page from `copier.yml`
and from a service called "Orders" with all backends and features.
"""

VARIABLES = """\
## Environment variables

The service reads them when it starts. A wrong or missing value stops the start, with one line per
problem that names the variable and hides the value. An empty value counts as missing.
"""

ENDPOINTS = """\
## Endpoints

Every error is a [problem document](operate.md#when-something-goes-wrong). A query or a body that
does not fit gets a 422. `/overview` needs at least one backend. `API_DOCS=false` removes `/docs`
and `/openapi.json`.
"""


def main() -> None:
    """Print the page, or write it."""
    with TemporaryDirectory() as folder:
        page = text(generate(Path(folder) / "orders", features=all_features()))
    if "--write" in sys.argv:
        PAGE.write_text(page)
    else:
        sys.stdout.write(page)


def text(project: Path) -> str:
    """Return the page; project: a service with everything."""
    asked = uv("run", "--quiet", "--no-dev", "python", DESCRIBED, cwd=project)
    found = json.loads(asked.output)
    return "\n".join(
        [
            INTRODUCTION,
            *questions(),
            VARIABLES,
            *variables(found["groups"]),
            ENDPOINTS,
            *endpoints(found["endpoints"]),
        ]
    )


def questions() -> Iterator[str]:
    """Yield the part about the questions."""
    config = yaml.safe_load((ROOT / "copier.yml").read_text())
    asked = {
        name: question
        for name, question in config.items()
        if not name.startswith("_") and question.get("when", True) and question.get("ask", True)
    }
    defaults = default_answers()
    yield "## Questions\n"
    yield from table(
        ["name", "question", "kind", "default"],
        [
            [f"`{name}`", words_of(question), kind(question), shown(defaults[name])]
            for name, question in asked.items()
        ],
    )
    for name, question in asked.items():
        if isinstance(question.get("choices"), dict):
            yield f"The values of `{name}`:\n"
            rows = [[f"`{value}`", label] for label, value in question["choices"].items()]
            yield from table(["value", "meaning"], rows)
    rest = [f"`{name}`" for name in config if not name.startswith("_") and name not in asked]
    yield f"Copier computes {', '.join(rest)}, and refuses other values.\n"


def default_answers() -> dict[str, Any]:
    """Return the answers of `--defaults`."""
    with TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        copier("copy", "--quiet", "--defaults", template(), service, cwd=Path(folder))
        return answers_of(service)


def kind(question: Mapping[str, Any]) -> str:
    """Return how a question is answered."""
    choices = question.get("choices")
    if choices is None:
        return "text"
    values = choices.values() if isinstance(choices, dict) else choices
    listed = ", ".join(f"`{value}`" for value in values)
    return f"{'any of' if question.get('multiselect') else 'one of'} {listed}"


def variables(groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the part about the variables, those of every service first."""

    def owner(group: Mapping[str, Any]) -> str:
        return next((name for name in (*BACKENDS, *all_features()) if name in parts(group)), "")

    order = ["", *BACKENDS, *all_features()]
    ordered = sorted(groups, key=lambda group: order.index(owner(group)))
    for name, members in groupby(ordered, owner):
        yield f"### {f'With `{name}`' if name else 'Every service'}\n"
        yield from table(
            ["name", "type", "unit", "default", "meaning"],
            [
                [
                    f"`{variable['name']}`",
                    type_of(variable["schema"]),
                    variable["unit"] or "",
                    "**required**" if variable["required"] else shown(variable["default"]),
                    " ".join([variable["meaning"], *examples(variable["schema"])]),
                ]
                for group in members
                for variable in group["variables"]
            ],
        )


def examples(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence with an example of a value, if there is one."""
    yield from (f"For example `{example}`." for example in schema.get("examples", []))


def type_of(schema: Mapping[str, Any]) -> str:
    """Return the type of a variable, in words."""
    if "anyOf" in schema:
        return type_of(schema["anyOf"][0])
    if schema.get("format") == "password":
        return "URL"
    if choices := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        f"{word} {schema[key]:,}"
        for key, word in (
            ("exclusiveMinimum", ">"),
            ("minimum", "≥"),
            ("maximum", "≤"),
        )
        if key in schema
    ]
    named = {"string": "text"}.get(schema["type"], schema["type"])
    return f"{named} {', '.join(limits)}".strip()


def endpoints(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the part about the endpoints."""
    yield from table(
        ["endpoint", "what it does", "takes", "answers", "comes with"],
        [
            [
                f"`{' '.join(endpoint['methods'])} {endpoint['path']}`",
                endpoint["meaning"],
                taken(endpoint),
                ", ".join(str(status) for status in endpoint["statuses"]),
                ", ".join(f"`{name}`" for name in owners(endpoint)) or "every service",
            ]
            for endpoint in found
            if FILES not in endpoint["path"]
        ],
    )


def taken(endpoint: Mapping[str, Any]) -> str:
    """Return the fields that a client sends."""
    listed = []
    for title in ("query", "body"):
        fields = [
            f"`{name}`" if required else f"`{name}` (optional)"
            for name, required in endpoint[title].items()
        ]
        if fields:
            listed.append(f"{title}: {', '.join(fields)}")
    return "; ".join(listed)


def owners(endpoint: Mapping[str, Any]) -> Iterator[str]:
    """Yield the answers that an endpoint needs."""
    if endpoint["module"].startswith(EXAMPLES):
        yield "examples"
    if endpoint["jobs"]:
        yield "jobs"  # which needs Redis
    elif endpoint["module"] != OVERVIEW:
        yield from endpoint["backends"]


def parts(described: Mapping[str, Any]) -> list[str]:
    """Return the parts of the name of a module."""
    return [FEATURE_OF.get(part, part) for part in str(described["module"]).split(".")]


def shown(value: Any) -> str:
    """Return a default for a table."""
    if isinstance(value, list):
        return ", ".join(f"`{each}`" for each in value)
    if value in {None, ""}:
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown, and an empty one."""
    lines = [titles, ["---"] * len(titles), *rows]
    yield from (f"| {' | '.join(cells)} |" for cells in lines)
    yield ""


if __name__ == "__main__":
    main()
