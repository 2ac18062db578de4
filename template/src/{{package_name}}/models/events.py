"""The collection of the events example."""

from datetime import datetime

from beanie import Document
from pymongo import ASCENDING, DESCENDING, IndexModel


class Event(Document):
    """An event."""

    kind: str
    amount: float
    at: datetime

    class Settings:
        """For the list of a kind, newest first, and for the summary."""

        name = "events"
        indexes = [IndexModel([("kind", ASCENDING), ("at", DESCENDING)])]
