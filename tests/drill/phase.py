"""What was seen in one part of the drill, and which bounds it broke."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .load import NO_REPLY, Reply
from .servers import Connections

EXPECTED_FAILURES = {502, 503, 504}
"""What a service may answer when it is not the one to blame."""


@dataclass
class Phase:
    """One part of the drill; times are in seconds."""

    name: str
    requests: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    """Requests that the service had accepted, and that got no reply."""
    worst: float | None = None
    """The longest answer of those that the fault concerned."""
    allowed: float | None = None
    """How long it may have been."""
    p99_before: float | None = None
    """Of all other endpoints."""
    p99: float | None = None
    recovery: float | None = None
    left_open: dict[str, Connections] = field(default_factory=dict)
    """At its end, by backend."""
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """The bounds that were not kept."""

    def expect(self, kept: bool, what: str) -> None:
        """Note a bound that was not kept."""
        if not kept:
            self.broken.append(what)

    def count(self, replies: Collection[Reply], failing: Collection[str] = ()) -> None:
        """Count the replies; only the endpoints that are failing may have failed.

        Even those may only have said that something behind the service is not there.
        """
        self.requests += len(replies)
        statuses = Counter(self.statuses)
        statuses.update(str(reply.status) if reply.status else "none" for reply in replies)
        self.statuses = dict(sorted(statuses.items()))
        wrong = Counter(
            (reply.endpoint, reply.status)
            for reply in replies
            if not reply.good
            and (reply.endpoint not in failing or reply.status not in EXPECTED_FAILURES)
        )
        for (endpoint, status), times in sorted(wrong.items()):
            self.lost += times if status == NO_REPLY else 0
            self.expect(False, f"{endpoint} answered {times} times {status or 'nothing'}")

    def limit(self, replies: Iterable[Reply], allowed: float, what: str) -> None:
        """Note the longest of the answers, which may take `allowed`."""
        longest = max((reply.seconds for reply in replies), default=0.0)
        if self.worst is None or longest > self.worst:
            self.worst, self.allowed = longest, allowed
        self.expect(longest <= allowed, f"{what} took {longest:.2f} s, not {allowed:.2f}")

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return asdict(self)


def percentile(replies: Iterable[Reply], share: float) -> float:
    """Return how long that share of the answers took at most."""
    ordered = sorted(reply.seconds for reply in replies)
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)] if ordered else 0.0
