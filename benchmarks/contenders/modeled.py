"""The generated service with models: a row and a document, each with and without."""

import os
from collections.abc import AsyncGenerator
from typing import Any

import umongo
from beanie import Document
from orders import app
from orders.backends import mongo, mongo_models, postgres
from orders.core import blocking
from pymongo import MongoClient
from quart import Blueprint, Quart
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from umongo.frameworks import PyMongoInstance

blueprint = Blueprint("bench", __name__)


class Base(DeclarativeBase):
    """No part of the service."""


class Row(Base):
    """A row of the table that is there already."""

    __tablename__ = "bench"

    id: Mapped[int] = mapped_column(primary_key=True)
    message: Mapped[str]


class Stored(Document):
    """A document of the collection that is there already."""

    id: int
    message: str

    class Settings:
        """The name of the collection."""

        name = "bench"


mongo_models.DOCUMENTS = [Stored]

instance = PyMongoInstance()


@instance.register
class Kept(umongo.Document):
    """The same document by μMongo, on the synchronous client."""

    id = umongo.fields.IntegerField(attribute="_id")
    message = umongo.fields.StringField()

    class Meta:
        """The name of the collection."""

        collection_name = "bench"


@blueprint.while_app_serving
async def connect() -> AsyncGenerator[None, None]:
    """Open the synchronous client."""
    with MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
        instance.set_db(client.get_default_database("orders"))
        yield


@blueprint.get("/postgres")
async def row() -> dict[str, Any]:
    """Ask PostgreSQL by asyncpg."""
    found = await postgres.pool().fetchrow("SELECT id, message FROM bench WHERE id = $1", 1)
    assert found is not None
    return dict(found)


@blueprint.get("/postgres-models")
async def modeled_row() -> dict[str, Any]:
    """Ask PostgreSQL by SQLAlchemy."""
    async with postgres.session() as session:
        found = await session.get(Row, 1)
    assert found is not None
    return {"id": found.id, "message": found.message}


@blueprint.get("/mongo")
async def document() -> dict[str, Any]:
    """Ask MongoDB by PyMongo."""
    found = await mongo.database().bench.find_one({"_id": 1})
    assert found is not None
    return dict(found)


@blueprint.get("/mongo-models")
async def modeled_document() -> dict[str, Any]:
    """Ask MongoDB by Beanie."""
    found = await Stored.get(1)
    assert found is not None
    return {"_id": found.id, "message": found.message}


@blueprint.get("/umongo")
async def kept_document() -> dict[str, Any]:
    """Ask MongoDB by μMongo, in a thread."""
    found = await blocking.run(Kept.find_one, {"_id": 1})
    return {"_id": found.id, "message": found.message}


def create_app() -> Quart:
    """Return the service with these endpoints."""
    service: Quart = app.create_app()
    service.register_blueprint(blueprint)
    return service
