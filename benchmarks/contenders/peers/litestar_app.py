"""Litestar as its documentation has it: Advanced Alchemy's plugin and services, a Redis store."""

import os
from datetime import datetime
from typing import Annotated, Any

from advanced_alchemy.base import CommonTableAttributes
from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyPlugin,
    providers,
)
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from litestar import Controller, Litestar, Request, get, post
from litestar.params import Parameter
from litestar.stores.redis import RedisStore
from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, DateTime, Identity, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(CommonTableAttributes, DeclarativeBase):
    """Base of the models."""


class NoteModel(Base):
    """A row."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class NewNote(BaseModel):
    """What a client sends."""

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=10_000)


class Note(BaseModel):
    """A note."""

    id: int
    title: str
    body: str
    created_at: datetime


class Counter(BaseModel):
    """A counter and its value."""

    name: str
    value: int


class NoteService(SQLAlchemyAsyncRepositoryService[NoteModel]):
    """The service of notes, and its repository."""

    class Repository(SQLAlchemyAsyncRepository[NoteModel]):
        """The repository of notes."""

        model_type = NoteModel

    repository_type = Repository


class NoteController(Controller):
    """Notes."""

    path = "/notes"
    dependencies = providers.create_service_dependencies(NoteService, "notes")

    @get()
    async def index(
        self, notes: NoteService, limit: Annotated[int, Parameter(ge=1, le=100)] = 20
    ) -> list[Note]:
        """List notes, newest first."""
        found = await notes.list(OrderBy("id", "desc"), LimitOffset(limit, 0))
        return [notes.to_schema(each, schema_type=Note) for each in found]

    @post()
    async def create(self, notes: NoteService, data: NewNote) -> Note:
        """Create a note."""
        note: Note = notes.to_schema(await notes.create(data), schema_type=Note)
        return note

    @get("/{note_id:int}")
    async def read(self, notes: NoteService, note_id: int) -> Note:
        """Return a note."""
        note: Note = notes.to_schema(await notes.get(note_id), schema_type=Note)
        return note


@get("/counters/{name:str}")
async def counter(request: Request[Any, Any, Any], name: str) -> Counter:
    """Return a counter."""
    value = await request.app.stores.get("counters").get(name)
    return Counter(name=name, value=int(value or 0))


@get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


database = SQLAlchemyAsyncConfig(
    connection_string=os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:"),
    before_send_handler="autocommit",
    session_config=AsyncSessionConfig(expire_on_commit=False),
    engine_config=EngineConfig(),
)

app = Litestar(
    route_handlers=[NoteController, counter, constant],
    plugins=[SQLAlchemyPlugin(config=database)],
    # Its keys are "counter:" and the name.
    stores={"counters": RedisStore.with_client(os.environ["REDIS_URL"], namespace="counter")},
)
