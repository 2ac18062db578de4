"""In a project of fastapi_template, beside its `dummy`: a model, a DAO, schemas and views."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi.param_functions import Depends
from notes_template.db.base import Base
from notes_template.db.dependencies import get_db_session
from notes_template.services.redis.dependency import get_redis_pool
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import ConnectionPool, Redis
from sqlalchemy import BigInteger, DateTime, Identity, Text, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column


class NoteModel(Base):
    """A row."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class NoteInputDTO(BaseModel):
    """What a client sends."""

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=10_000)


class NoteDTO(BaseModel):
    """A note."""

    id: int
    title: str
    body: str
    created_at: datetime

    model_config = ConfigDict(from_attributes=True)


class CounterDTO(BaseModel):
    """A counter and its value."""

    name: str
    value: int


class NoteDAO:
    """Access to the table."""

    def __init__(self, session: Annotated[AsyncSession, Depends(get_db_session)]) -> None:
        """session: that of the request."""
        self.session = session

    async def create_note(self, title: str, body: str) -> NoteModel:
        """Add a note."""
        note = NoteModel(title=title, body=body)
        self.session.add(note)
        await self.session.flush()
        return note

    async def get_note(self, note_id: int) -> NoteModel | None:
        """Return a note."""
        found = await self.session.execute(select(NoteModel).where(NoteModel.id == note_id))
        note: NoteModel | None = found.scalar_one_or_none()
        return note

    async def get_notes(self, limit: int, offset: int) -> list[NoteModel]:
        """Return notes, newest first."""
        query = select(NoteModel).order_by(NoteModel.id.desc()).limit(limit).offset(offset)
        return list((await self.session.execute(query)).scalars().fetchall())


router = APIRouter()

Notes = Annotated[NoteDAO, Depends()]


@router.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@router.post("/notes", response_model=NoteDTO, status_code=201)
async def create_note(data: NoteInputDTO, notes: Notes) -> NoteModel:
    """Create a note."""
    return await notes.create_note(data.title, data.body)


@router.get("/notes", response_model=list[NoteDTO])
async def get_notes(notes: Notes, limit: int = 10, offset: int = 0) -> list[NoteModel]:
    """List notes."""
    return await notes.get_notes(limit, offset)


@router.get("/notes/{note_id}", response_model=NoteDTO)
async def get_note(note_id: int, notes: Notes) -> NoteModel:
    """Return a note."""
    note = await notes.get_note(note_id)
    if note is None:
        raise HTTPException(status_code=404)
    return note


@router.get("/counters/{name}", response_model=CounterDTO)
async def get_counter(
    name: str, redis_pool: Annotated[ConnectionPool, Depends(get_redis_pool)]
) -> CounterDTO:
    """Return a counter."""
    async with Redis(connection_pool=redis_pool) as redis:
        value = await redis.get(f"counter:{name}")
    return CounterDTO(name=name, value=int(value or 0))
