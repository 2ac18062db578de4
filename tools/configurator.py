"""Write the data of the guide's configurator, made from the template. `make docs` runs it.

A page without a server cannot render templates, and the answers have thousands of combinations. So
each template is cut into the pieces between its tags. A loop over backends or features becomes one
piece for each of them. Then each piece is rendered with many answers, to find those that it depends
on, and once for each value of these only. Each distinct text is in the data once. In November 2026
this takes 5 s and 0.3 MB; 1,536 services, of 0.1 s and 0.15 MB each, would be minutes and 230 MB.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml
from copier._main import Worker
from copier._settings import SettingsModel
from harness import ROOT, template
from jinja2 import Environment, FileSystemLoader, Template, nodes
from pathspec import PathSpec
from release import version_of

DATA = ROOT / "docs" / "configurator" / "data.js"

TITLE, PACKAGE, SLUG, ADDRESS = "\ue000\ue001\ue002\ue003"
"""They stand in the data for the name of the service, its other forms, and the template's place."""

NAME = "Qxz Title"
"""The name that is rendered: nothing else in the template looks like it."""

Answers = tuple[str, ...]
"""A value for each input. "1" and "0" say whether one of several is chosen."""


Function = Callable[[Answers], Any]
"""What depends on answers. None: the file in question is not there."""

SAMPLES = 200
"""Answers with which each piece is tried. The tests compare other answers with real services."""


class Input(NamedTuple):
    """A value that can be chosen with others, or a question with one answer."""

    question: str
    value: str | None
    options: tuple[str, ...]


class Piece(NamedTuple):
    """A part of a file: a text, or what to render with the value of a loop."""

    text: str
    rendered: Template | None
    item: Any


def write() -> None:
    """Write the data."""
    text = json.dumps(Configurator().data(), ensure_ascii=False, separators=(",", ":"))
    DATA.write_text(f"const TEMPLATE = {text};\n", encoding="utf-8")


class Configurator:
    """The template, in pieces."""

    def __init__(self) -> None:
        """Read the questions, and prepare what Copier would render with."""
        self.config = yaml.safe_load((ROOT / "copier.yml").read_text())
        self.inputs = list(inputs(self.config))
        with TemporaryDirectory() as folder:
            worker = Worker(
                src_path=str(template()),
                dst_path=Path(folder) / "service",
                data={"project_name": NAME},
                defaults=True,
                quiet=True,
                settings=SettingsModel(),
            )
            with worker:
                worker._ask()
                self.environment: Environment = worker.jinja_env
                # Copier's own copy of the template does not outlive the worker.
                self.environment.loader = FileSystemLoader(ROOT)
                self.context = dict(worker._render_context())
        self.contexts: dict[Answers, dict[str, Any]] = {}
        self.refused: dict[Answers, str] = {}
        self.owned: dict[Answers, PathSpec[Any]] = {}
        self.samples = list(dict.fromkeys(self._samples()))

    def _samples(self) -> Iterator[Answers]:
        """Yield answers of all kinds: everything, nothing, and some with few or many choices."""
        options = [each.options for each in self.inputs]
        yield (everything := tuple(each[-1] for each in options))
        yield (nothing := tuple(each[0] for each in options))
        for index, values in enumerate(options):
            for base, value in product((nothing, everything), values):
                yield with_key(base, [index], (value,))
        # All choices of backends with each feature, with none and with all: with few features, the
        # conditions of their files show what they depend on.
        place = {each.value: index for index, each in enumerate(self.inputs) if each.value}
        backends = [place[name] for name in self.config["backends"]["choices"].values()]
        small = [place["examples"], place["container"]]
        for key in product("01", repeat=len(backends)):
            for few in product((*place.values(),), ("00", "01", "11")):
                base = with_key(nothing, small, tuple(few[1]))
                yield with_key(with_key(base, [few[0]], ("1",)), backends, key)
            yield with_key(everything, backends, key)
        chance = random.Random(1)  # noqa: S311 - the data are the same each time
        for number in range(SAMPLES):
            share = (0.1, 0.5, 0.9)[number % 3]
            yield tuple(
                chance.choice(each.options) if each.value is None else "01"[chance.random() < share]
                for each in self.inputs
            )

    def answers(self, chosen: Answers) -> dict[str, Any]:
        """Return answers as Copier takes them."""
        given: dict[str, Any] = {}
        for each, value in zip(self.inputs, chosen, strict=True):
            if each.value is None:
                given[each.question] = value
            else:
                given.setdefault(each.question, [])
                given[each.question] += [each.value] * (value == "1")
        return given

    def context_of(self, chosen: Answers) -> dict[str, Any]:
        """Return what a template is rendered with."""
        if chosen not in self.contexts:
            given = self.answers(chosen)
            recorded = dict(self.context["_copier_answers"]) | given
            recorded |= {"_src_path": ADDRESS, "_commit": f"v{version_of(ROOT)}"}
            self.contexts[chosen] = self.context | given | {"_copier_answers": recorded}
        return self.contexts[chosen]

    def refusal(self, chosen: Answers) -> str:
        """Return why Copier refuses these answers together; nothing if it takes them."""
        if chosen not in self.refused:
            rules = (self.config[name].get("validator", "") for name in self.answers(chosen))
            texts = [self.environment.from_string(rule) for rule in rules]
            context = self.context_of(chosen)
            # Two questions may refuse what does not fit together, in the same words.
            sentences = dict.fromkeys(text.render(context).strip() for text in texts)
            self.refused[chosen] = " ".join(sentences).strip()
        return self.refused[chosen]

    def has(self, path: str, chosen: Answers) -> bool | None:
        """Return whether a service with these answers has a file; None: they are refused."""
        if self.refusal(chosen):
            return None
        if chosen not in self.owned:
            lines = [
                self.environment.from_string(pattern).render(self.context_of(chosen))
                for pattern in self.config["_exclude"]
            ]
            patterns = [line for text in lines for line in text.splitlines()]
            self.owned[chosen] = PathSpec.from_lines("gitignore", patterns)
        return not self.owned[chosen].match_file(path)

    def data(self) -> dict[str, Any]:
        """Return everything that the page needs."""
        texts: dict[str, int] = {}
        files = []
        for source in sorted(path for path in (ROOT / "template").rglob("*") if path.is_file()):
            name = source.relative_to(ROOT / "template").as_posix()
            if "__pycache__" in name:
                continue
            path = self.environment.from_string(name).render(self.context)
            raw = source.read_text(encoding="utf-8")
            pieces = self.pieces(raw) if path.endswith(".jinja") else [Piece(raw, None, None)]
            path = path.removesuffix(".jinja")
            when = self.depends(partial(self.has, path))
            parts = [self.depends(self.renderer(piece, path)) for piece in pieces]
            files.append(
                {
                    "path": named(path),
                    "when": compact(when, int),
                    "parts": [
                        compact(part, lambda text: texts.setdefault(named(text), len(texts)))
                        for part in merged(parts)
                    ],
                }
            )
        asked = ("backends", "features", "ci", "license")
        return {
            "reserved": self.reserved(),
            "refusal": compact(
                self.depends(self.refusal),
                lambda text: texts.setdefault(text, len(texts)),
            ),
            "inputs": [[each.question, each.value] for each in self.inputs],
            "questions": {
                name: {
                    "choices": labelled(self.config[name]["choices"]),
                    "default": self.context[name],
                }
                for name in asked
            },
            "files": files,
            "texts": list(texts),
        }

    def reserved(self) -> list[str]:
        """Return the names that a package may not have."""
        source = '{% from "includes/names.jinja" import reserved %}{{ reserved }}'
        return self.environment.from_string(source).render(self.context).split()

    def renderer(self, piece: Piece, path: str) -> Function:
        """Return a function of the answers: the text of a piece, or None where its file is not."""

        @cache
        def render(chosen: Answers) -> str | None:
            if not self.has(path, chosen):
                return None
            if piece.rendered is None:
                return piece.text
            return piece.rendered.render(self.context_of(chosen) | {"_item": piece.item})

        return render

    def depends(self, function: Function) -> "Table":
        """Find the inputs on which a function of the answers depends, and its values for these.

        Two answers that agree in the inputs found so far, and have different values, differ in one
        that is still to be found.
        """
        found: set[int] = set()
        known: dict[tuple[str, ...], Answers] = {}
        for chosen in self.samples:
            if function(chosen) is None:
                continue
            like = known.setdefault(key_of(chosen, found), chosen)
            if function(like) != function(chosen):
                found |= decisive(function, like, chosen)
                known = {key_of(each, found): each for each in [*known.values(), chosen]}
        inputs = sorted(found)
        values = {key: function(chosen) for key, chosen in known.items()}
        for key in product(*(self.inputs[index].options for index in inputs)):
            completed = (with_key(each, inputs, key) for each in self.samples)
            results = (function(each) for each in completed)
            if key not in values:
                result = next((each for each in results if each is not None), None)
                if result is not None:
                    values[key] = result
        return Table(inputs, values)

    def pieces(self, raw: str) -> list[Piece]:
        """Cut a template at its outermost tags, and the recorded answers between these."""
        if "{{ _copier_answers | to_nice_yaml -}}" in raw:
            lines = "".join(
                f'{{{{ {{"{name}": _copier_answers["{name}"]}} | to_nice_yaml }}}}'
                for name in sorted(self.context_of(self.samples[0])["_copier_answers"])
            )
            raw = raw.replace("{{ _copier_answers | to_nice_yaml -}}", lines).rstrip()
        tree = self.environment.parse(raw)
        silent = (nodes.Assign, nodes.FromImport, nodes.Macro)
        found: list[Piece] = []
        for number, node in enumerate(tree.body):
            if isinstance(node, silent):
                continue
            before = [each for each in tree.body[:number] if isinstance(each, silent)]
            for part in node.nodes if isinstance(node, nodes.Output) else [node]:
                if isinstance(part, nodes.TemplateData):
                    found.append(Piece(part.data, None, None))
                elif isinstance(part, nodes.Expr):
                    found.append(self.piece(before, nodes.Output([part], lineno=1)))
                else:
                    found += self.unrolled(before, part)
        return found

    def piece(self, before: Sequence[nodes.Node], node: nodes.Node, item: Any = None) -> Piece:
        """Return a piece that is rendered by itself, after what the template defines before."""
        tree = nodes.Template([*before, node], lineno=1)
        tree.set_environment(self.environment)
        code = self.environment.compile(tree)
        made = Template.from_code(self.environment, code, self.environment.make_globals(None))
        return Piece("", made, item)

    def items(self, before: Sequence[nodes.Node], listed: nodes.Node) -> list[Any]:
        """Return what a loop goes through in a service with everything."""
        found: list[Any] = []

        def keep(items: Iterable[Any]) -> str:
            found.extend(items)
            return ""

        self.environment.globals["_keep"] = keep
        call = nodes.Call(nodes.Name("_keep", "load"), [listed], [], None, None)
        piece = self.piece(before, nodes.Output([call], lineno=1))
        assert piece.rendered
        piece.rendered.render(self.context_of(self.samples[0]))
        return found

    def unrolled(self, before: Sequence[nodes.Node], node: nodes.Node) -> Iterator[Piece]:
        """Yield a piece for each pass of a loop, if the passes do not know of each other."""
        whole = self.piece(before, node)
        if not isinstance(node, nodes.For) or uses_loop(node):
            yield whole
            return
        seen = self.items(before, node.iter)
        chosen = nodes.Filter(
            node.iter,
            "select",
            [nodes.Const("equalto"), nodes.Name("_item", "load")],
            [],
            None,
            None,
        )
        for item in seen:
            single = nodes.For(
                node.target, chosen, node.body, node.else_, node.test, node.recursive, lineno=1
            )
            yield self.piece(before, single, item)


def uses_loop(node: nodes.For) -> bool:
    """Return whether the passes of a loop know of each other, or of none at all."""
    return bool(node.else_) or any(name.name == "loop" for name in node.find_all(nodes.Name))


class Table(NamedTuple):
    """A function of some inputs."""

    inputs: list[int]
    values: Mapping[tuple[str, ...], Any]


def key_of(chosen: Answers, indexes: Iterable[int]) -> tuple[str, ...]:
    """Return the values of some inputs."""
    return tuple(chosen[index] for index in sorted(indexes))


def with_key(chosen: Answers, indexes: Sequence[int], key: Sequence[str]) -> Answers:
    """Return answers with other values for some inputs."""
    values = dict(enumerate(chosen)) | dict(zip(indexes, key, strict=True))
    return tuple(values.values())


def decisive(function: Function, one: Answers, other: Answers) -> set[int]:
    """Return inputs that change a function on the way from some answers to others."""
    differing = [index for index, value in enumerate(one) if value != other[index]]
    for way in (differing, differing[::-1]):
        found = set()
        here = one
        for index in way:
            there = with_key(here, [index], [other[index]])
            if None not in {function(here), function(there)} and function(here) != function(there):
                found.add(index)
            here = there
        if found:
            return found
    return set(differing)


def merged(tables: Sequence[Table]) -> list[Table]:
    """Join neighbours that depend on nothing, and leave out what is always empty."""
    joined: list[Table] = []
    for table in tables:
        if not any(table.values.values()):
            continue
        if joined and joined[-1].inputs == table.inputs == []:
            joined[-1] = Table([], {(): joined[-1].values[()] + table.values[()]})
        else:
            joined.append(table)
    return joined


def compact(table: Table, number: Any) -> Any:
    """Return a table as the page reads it: a number, or the inputs and a number for each key."""
    if not table.inputs:
        return number(table.values[()])
    return [table.inputs, {" ".join(key): number(value) for key, value in table.values.items()}]


def named(text: str) -> str:
    """Put the marks for the name of the service where it was rendered."""
    slug = NAME.lower().replace(" ", "-")
    forms = ((NAME, TITLE), (slug.replace("-", "_"), PACKAGE), (slug, SLUG))
    for form, mark in forms:
        text = text.replace(form, mark)
    return text


def inputs(config: Mapping[str, Any]) -> Iterator[Input]:
    """Yield what can be chosen."""
    for name, question in config.items():
        if name.startswith("_") or "choices" not in question:
            continue
        values = [value for value, _ in labelled(question["choices"])]
        if question.get("multiselect"):
            yield from (Input(name, value, ("0", "1")) for value in values)
        else:
            yield Input(name, None, tuple(values))


def labelled(choices: Any) -> list[list[str]]:
    """Return the values of choices and their labels."""
    pairs = choices.items() if isinstance(choices, dict) else ((each, each) for each in choices)
    return [[value, label] for label, value in pairs]


if __name__ == "__main__":
    write()
    shutil.rmtree(template())
