"""The plot of a run, as SVG that is readable on light and on dark."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

WIDTH, ROW, LABEL = 720, 26, 250
COLOURS = {"service": "#2f6f4f", "service-500": "#2f6f4f", "blocked": "#b3472f"}
OTHER = "#7b8794"

NAMES = {
    "service": "the generated service",
    "service-500": "the same, pool of 500",
    "fastapi": "FastAPI, same clients",
    "raw": "ASGI without a framework",
    "quart": "Quart as documented",
    "blocked": "blocking calls in async def",
    "flask-1": "Flask, 1 thread",
    "flask-8": "Flask, 8 threads",
    "flask-50": "Flask, 50 threads",
    "flask-200": "Flask, 200 threads",
}


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Write the plot of a run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    of = {
        (each["contender"], each["endpoint"], each["connections"]): each["runs"]
        for each in result["samples"]
    }

    def bars(field: str, endpoint: str, connections: int) -> list[tuple[str, float]]:
        return [
            (name, median(run[field] for run in runs))
            for (name, where, many), runs in of.items()
            if (where, many) == (endpoint, connections)
        ]

    waiting = [
        (f"{connections} connections" if connections > 1 else "1 connection", rows)
        for connections in (1, 50, 500)
        if (rows := bars("rate", "upstream", connections))
    ]
    (folder / "waiting.svg").write_text(
        chart("Requests per second, while a web service takes 50 ms", waiting)
    )


def chart(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Return horizontal bars, group by group, each group with its own scale."""
    lines, y = [], 34
    for group, rows in groups:
        y += ROW
        lines.append(f'<text x="8" y="{y}" class="group">{escape(group)}</text>')
        most = max((value for _, value in rows), default=1) or 1
        for name, value in sorted(rows, key=lambda row: -row[1]):
            y += ROW
            width = max(1, round((WIDTH - LABEL - 90) * value / most))
            colour = COLOURS.get(name, OTHER)
            lines += [
                f'<text x="{LABEL - 8}" y="{y}" text-anchor="end">{escape(NAMES[name])}</text>',
                f'<rect x="{LABEL}" y="{y - 13}" width="{width}" height="17" fill="{colour}"/>',
                f'<text x="{LABEL + width + 6}" y="{y}">{value:,.0f}</text>',
            ]
    height = y + 20
    style = (
        "text{font:13px system-ui,sans-serif;fill:#1f2933}"
        ".title{font-size:16px;font-weight:600}.group{font-weight:600}"
        "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            f'<text x="8" y="24" class="title">{escape(title)}</text>',
            *lines,
            "</svg>\n",
        ]
    )
