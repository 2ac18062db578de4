"""FastAPI with the duties of a generated service."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException as HttpError

from .duties import Duties, problem
from .notes import (
    CREATE,
    LIST,
    READ,
    Clients,
    Counter,
    NewNote,
    Note,
    Notes,
    Page,
    UnavailableError,
)

clients = Clients()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Open the clients."""
    async with clients.opened():
        gc.collect()
        gc.freeze()
        yield


api = FastAPI(lifespan=lifespan)


@api.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@api.post("/notes", status_code=201)
async def create(data: NewNote, response: Response) -> Note:
    """Create a note."""
    note = Note(**await clients.fetchrow(CREATE, data.title, data.body))
    response.headers["Location"] = api.url_path_for("read", note_id=note.id)
    return note


@api.get("/notes")
async def index(page: Annotated[Page, Query()]) -> Notes:
    """List notes, newest first."""
    rows = await clients.fetch(LIST, page.before, page.limit + 1)
    notes = [Note(**row) for row in rows[: page.limit]]
    following = None
    if len(rows) > page.limit:
        query = f"before={notes[-1].id}&limit={page.limit}"
        following = f"{api.url_path_for('index')}?{query}"
    return Notes(notes=notes, next=following)


@api.get("/notes/{note_id}")
async def read(note_id: int) -> Note:
    """Return a note."""
    row = await clients.fetchrow(READ, note_id)
    if row is None:
        raise HTTPException(404, "There is no such note.")
    return Note(**row)


@api.get("/counters/{name}")
async def counter(name: Annotated[str, Path(pattern="^[a-z][a-z0-9_.-]{0,63}$")]) -> Counter:
    """Return a counter."""
    return await clients.counter(name)


def answer(status: int, detail: str | None, **members: Any) -> Response:
    """Return a problem document."""
    body = problem(status, detail, **members)
    return Response(body, status, media_type="application/problem+json")


@api.exception_handler(HttpError)
async def http_error(_request: Request, error: HttpError) -> Response:
    """Answer with its status."""
    return answer(error.status_code, error.detail)


@api.exception_handler(RequestValidationError)
async def invalid(_request: Request, error: RequestValidationError) -> Response:
    """Name the fields."""
    fields = [
        {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
        for each in error.errors()
    ]
    return answer(422, "One or more fields are invalid.", errors=fields)


@api.exception_handler(UnavailableError)
@api.exception_handler(OSError)
@api.exception_handler(RedisError)
@api.exception_handler(asyncpg.PostgresConnectionError)
async def unavailable(_request: Request, _error: Exception) -> Response:
    """Ask the client to come back."""
    response = answer(503, "A required backend is temporarily unavailable. Please retry.")
    response.headers["Retry-After"] = "1"
    return response


@api.exception_handler(500)
async def failed(_request: Request, _error: Exception) -> Response:
    """Tell nothing."""
    return answer(500, None)


app = Duties(api)
