"""Quart as its documentation has it: no duties, no quart-schema, the same clients."""

from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError
from quart import Quart, abort, request, url_for

from .notes import CREATE, LIST, READ, Clients, NewNote, Page

app = Quart(__name__)
clients = Clients()


@app.while_serving
async def lifespan() -> AsyncIterator[None]:
    """Open the clients."""
    async with clients.opened():
        yield


@app.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@app.post("/notes")
async def create() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Create a note."""
    data = NewNote.model_validate(await request.get_json())
    row = await clients.fetchrow(CREATE, data.title, data.body)
    return dict(row), 201, {"Location": url_for("read", note_id=row["id"])}


@app.get("/notes")
async def index() -> dict[str, Any]:
    """List notes, newest first."""
    page = Page.model_validate(request.args.to_dict())
    rows = await clients.fetch(LIST, page.before, page.limit + 1)
    notes = [dict(row) for row in rows[: page.limit]]
    following = None
    if len(rows) > page.limit:
        following = url_for("index", before=notes[-1]["id"], limit=page.limit)
    return {"notes": notes, "next": following}


@app.get("/notes/<int:note_id>")
async def read(note_id: int) -> dict[str, Any]:
    """Return a note."""
    row = await clients.fetchrow(READ, note_id)
    if row is None:
        abort(404)
    return dict(row)


@app.get("/counters/<name>")
async def counter(name: str) -> dict[str, Any]:
    """Return a counter."""
    return (await clients.counter(name)).model_dump()


@app.errorhandler(ValidationError)
async def invalid(error: ValidationError) -> tuple[dict[str, Any], int]:
    """Say what is wrong."""
    return {"errors": error.errors(include_url=False, include_context=False)}, 422
