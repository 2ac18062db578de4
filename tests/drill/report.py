"""What the drill has seen, as a table."""

from typing import Any

HEAD = """\
# The drill

A service generated with all defaults and `jobs`, run as its README says for production, on real
servers that are killed, frozen and misconfigured under load. `make drill WRITE=1` makes this table.
`tests/drill/` says what each part does, and which bounds it must keep.

"""

COLUMNS = (
    "part",
    "requests",
    "by status",
    "longest answer of those concerned (allowed)",
    "p99 of the others, before → during",
    "recovered after",
    "replies lost",
    "connections left open: PostgreSQL, MongoDB, Redis",
)


def table(seen: dict[str, Any]) -> str:
    """Return the results as a Markdown document."""
    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
    lines += [_row(_cells(phase)) for phase in seen["phases"]]
    notes = [
        f"- {phase['name']}: {'; '.join(phase['notes'])}"
        for phase in seen["phases"]
        if phase["notes"]
    ]
    end = (
        "\nNo connection that was left open had an unfinished command or transaction.\n"
        "`none`: the connection was refused, or the client had left.\n\n"
    )
    end += "\n".join(notes) + f"\n\nIt took {seen['seconds']:.0f} s; {seen['machine']}.\n"
    return HEAD + "\n".join(lines) + "\n" + end


def broken(seen: dict[str, Any]) -> list[str]:
    """Return the bounds that were not kept, each with the part in which that was."""
    return [f"{phase['name']}: {what}" for phase in seen["phases"] for what in phase["broken"]]


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(phase: dict[str, Any]) -> list[str]:
    statuses = ", ".join(f"{count} x {status}" for status, count in phase["statuses"].items())
    worst = _time(phase["worst"])
    if phase["allowed"] is not None:
        worst += f" ({_time(phase['allowed'])})"
    p99 = _time(phase["p99"])
    if phase["p99_before"] is not None:
        p99 = f"{_time(phase['p99_before'])} → {p99}"
    left = [str(at["open"]) for at in phase["left_open"].values()]
    return [
        phase["name"],
        str(phase["requests"]),
        statuses,
        worst,
        p99,
        _time(phase["recovery"]),
        str(phase["lost"]),
        ", ".join(left) or "-",
    ]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
