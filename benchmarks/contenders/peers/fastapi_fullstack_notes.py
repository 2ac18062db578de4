"""In a project of fastapi-fullstack: a model, schemas, a repository, a service and routes.

Its own `items` cost more: they have a login, an owner, and lists that count all of them.
"""

from datetime import datetime
from typing import Annotated, Any

from app.api.deps import DBSession, Redis
from app.core.exceptions import NotFoundError
from app.db.base import Base
from app.schemas.base import BaseSchema
from fastapi import APIRouter, Depends, Query, status
from pydantic import Field
from sqlalchemy import BigInteger, DateTime, Identity, Text, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column


class Note(Base):
    """A row."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    title: Mapped[str] = mapped_column(Text, nullable=False)
    body: Mapped[str] = mapped_column(Text, nullable=False)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), nullable=False
    )


class NoteCreate(BaseSchema):
    """What a client sends."""

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=10_000)


class NoteRead(NoteCreate):
    """A note."""

    id: int
    created_at: datetime


class NoteList(BaseSchema):
    """A part of the list."""

    items: list[NoteRead]


class Counter(BaseSchema):
    """A counter and its value."""

    name: str
    value: int


async def get_by_id(db: AsyncSession, note_id: int) -> Note | None:
    """Return a row."""
    note: Note | None = (
        await db.execute(select(Note).where(Note.id == note_id))
    ).scalar_one_or_none()
    return note


async def list_newest(db: AsyncSession, *, skip: int, limit: int) -> list[Note]:
    """Return rows."""
    query = select(Note).order_by(Note.id.desc()).offset(skip).limit(limit)
    return list((await db.execute(query)).scalars().all())


async def insert(db: AsyncSession, *, title: str, body: str) -> Note:
    """Add a row."""
    note = Note(title=title, body=body)
    db.add(note)
    await db.flush()
    await db.refresh(note)
    return note


class NoteService:
    """What the routes call."""

    def __init__(self, db: AsyncSession) -> None:
        """db: the session of the request."""
        self.db = db

    async def get(self, *, note_id: int) -> Note:
        """Return a note; raises NotFoundError."""
        note = await get_by_id(self.db, note_id)
        if not note:
            raise NotFoundError(message="Note not found", details={"note_id": str(note_id)})
        return note

    async def list(self, *, skip: int, limit: int) -> list[Note]:
        """Return notes, newest first."""
        return await list_newest(self.db, skip=skip, limit=limit)

    async def create(self, *, data: NoteCreate) -> Note:
        """Create a note."""
        return await insert(self.db, title=data.title, body=data.body)


def get_note_service(db: DBSession) -> NoteService:
    """Return the service of a session."""
    return NoteService(db)


NoteSvc = Annotated[NoteService, Depends(get_note_service)]

router = APIRouter()


@router.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@router.get("/notes", response_model=NoteList)
async def list_notes(
    service: NoteSvc,
    skip: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Any:
    """List notes."""
    return NoteList(items=await service.list(skip=skip, limit=limit))


@router.post("/notes", response_model=NoteRead, status_code=status.HTTP_201_CREATED)
async def create_note(data: NoteCreate, service: NoteSvc) -> Any:
    """Create a note."""
    return await service.create(data=data)


@router.get("/notes/{note_id}", response_model=NoteRead)
async def get_note(note_id: int, service: NoteSvc) -> Any:
    """Return a note."""
    return await service.get(note_id=note_id)


@router.get("/counters/{name}", response_model=Counter)
async def get_counter(name: str, redis: Redis) -> Any:
    """Return a counter."""
    return Counter(name=name, value=int(await redis.get(f"counter:{name}") or 0))
