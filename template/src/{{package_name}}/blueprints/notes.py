"""Notes in PostgreSQL: create, list, read, replace, delete.

`migrations/versions/0001_notes.py` creates the table.
"""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint, abort, url_for
from quart_schema import validate_querystring, validate_request, validate_response

from ..backends import postgres
from ..core.api import Text

MAX_ID = 2**63 - 1
"""The largest `bigint`."""

blueprint = Blueprint("notes", __name__, url_prefix="/notes")


class NewNote(BaseModel):
    """What a client sends."""

    title: Annotated[Text, Field(min_length=1, max_length=200)]
    body: Annotated[Text, Field(max_length=10_000)] = ""


class Note(BaseModel):
    """A note."""

    id: int
    title: str
    body: str
    created_at: datetime


class Page(BaseModel):
    """The part of the list that a client wants: the newest notes older than `before`."""

    limit: int = Field(20, ge=1, le=100)
    before: int = Field(MAX_ID, ge=1, le=MAX_ID)


class Notes(BaseModel):
    """A part of the list. `next` is the address of the following part, if there is one."""

    notes: list[Note]
    next: str | None


@blueprint.post("")
@validate_request(NewNote)
@validate_response(Note, 201)
async def create(data: NewNote) -> tuple[Note, int, dict[str, str]]:
    """Create a note."""
    row = await _row(
        "INSERT INTO notes (title, body) VALUES ($1, $2) RETURNING *", data.title, data.body
    )
    note = Note(**row)
    return note, 201, {"Location": url_for("notes.read", note_id=note.id)}


@blueprint.get("")
@validate_querystring(Page)
@validate_response(Notes)
async def index(query_args: Page) -> Notes:
    """List notes, newest first.

    A page begins after the last ID of the page before, not at an offset: the hundredth page costs
    no more than the first.
    """
    limit = query_args.limit
    rows = await postgres.pool().fetch(
        "SELECT * FROM notes WHERE id < $1 ORDER BY id DESC LIMIT $2", query_args.before, limit + 1
    )
    notes = [Note(**row) for row in rows[:limit]]
    has_more = len(rows) > limit
    return Notes(
        notes=notes,
        next=url_for("notes.index", before=notes[-1].id, limit=limit) if has_more else None,
    )


@blueprint.get("/<int:note_id>")
@validate_response(Note)
async def read(note_id: int) -> Note:
    """Return a note."""
    return Note(**await _row("SELECT * FROM notes WHERE id = $1", note_id))


@blueprint.put("/<int:note_id>")
@validate_request(NewNote)
@validate_response(Note)
async def replace(note_id: int, data: NewNote) -> Note:
    """Replace a note."""
    query = "UPDATE notes SET title = $2, body = $3 WHERE id = $1 RETURNING *"
    return Note(**await _row(query, note_id, data.title, data.body))


@blueprint.delete("/<int:note_id>")
async def delete(note_id: int) -> tuple[str, int]:
    """Delete a note."""
    await _row("DELETE FROM notes WHERE id = $1 RETURNING id", note_id)
    return "", 204


async def _row(query: str, *args: object) -> postgres.Record:
    """Return the row that a query gives. Without one, the client gets a 404."""
    row = await postgres.pool().fetchrow(query, *args)
    if row is None:
        abort(404, "There is no such note.")
    return row
