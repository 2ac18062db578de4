"""Visits: the response does not wait until one is noted. A job does that."""

from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint
from quart_schema import validate_request, validate_response

from ..backends import redis
from ..core.api import Text
from ..jobs import visits

blueprint = Blueprint("visits", __name__, url_prefix="/visits")


class Visit(BaseModel):
    """Who came."""

    visitor: Annotated[Text, Field(min_length=1, max_length=100)]


class Visitors(BaseModel):
    """How many visitors each day had, as of the last minute."""

    days: dict[str, int]


@blueprint.post("")
@validate_request(Visit)
@validate_response(Visit, 202)
async def add(data: Visit) -> tuple[Visit, int]:
    """Accept a visit. A job will note it."""
    await visits.note.kiq(data.visitor, visits.today())
    return data, 202


@blueprint.get("")
@validate_response(Visitors)
async def index() -> Visitors:
    """Return the visitors of each day. A job counts them every minute."""
    return Visitors.model_validate({"days": await redis.client().hgetall("visitors")})
