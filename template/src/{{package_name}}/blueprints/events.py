"""Events in MongoDB: append one, list a kind, sum up all kinds."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field
from pymongo import ASCENDING, DESCENDING, IndexModel
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from ..backends import mongo

# For the list of a kind, newest first, and for the summary.
mongo.declare_indexes("events", IndexModel([("kind", ASCENDING), ("at", DESCENDING)]))

blueprint = Blueprint("events", __name__, url_prefix="/events")

Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]


class NewEvent(BaseModel):
    """What a client sends."""

    kind: Kind
    amount: float = Field(0.0, ge=-1e15, le=1e15, strict=True)


class Event(BaseModel):
    """An event."""

    id: str
    kind: str
    amount: float
    at: datetime


class Selection(BaseModel):
    """The events that a client wants: the newest of a kind."""

    kind: Kind
    limit: int = Field(20, ge=1, le=100)


class Events(BaseModel):
    """The newest events of a kind."""

    events: list[Event]


class KindSummary(BaseModel):
    """The number of events of a kind, and their sum."""

    kind: str
    count: int
    amount: float


class Summary(BaseModel):
    """All kinds, sorted by name."""

    kinds: list[KindSummary]


@blueprint.post("")
@validate_request(NewEvent)
@validate_response(Event, 201)
async def append(data: NewEvent) -> tuple[Event, int]:
    """Append an event."""
    document = {"kind": data.kind, "amount": data.amount, "at": datetime.now(UTC)}
    await mongo.database().events.insert_one(document)
    return _from_document(document), 201


@blueprint.get("")
@validate_querystring(Selection)
@validate_response(Events)
async def index(query_args: Selection) -> Events:
    """List the events of a kind, newest first."""
    events = mongo.database().events.find({"kind": query_args.kind})
    newest = events.sort("at", DESCENDING).limit(query_args.limit)
    return Events(events=[_from_document(event) async for event in newest])


@blueprint.get("/summary")
@validate_response(Summary)
async def summarize() -> Summary:
    """Sum up the events of each kind."""
    group = {"_id": "$kind", "count": {"$sum": 1}, "amount": {"$sum": "$amount"}}
    kinds = await mongo.database().events.aggregate(
        [{"$group": group}, {"$sort": {"_id": ASCENDING}}]
    )
    return Summary(kinds=[KindSummary(kind=kind["_id"], **kind) async for kind in kinds])


def _from_document(event: mongo.Document) -> Event:
    return Event(id=str(event["_id"]), **event)
