"""The clients that block, as a Flask service has them: one connection for each thread."""

import os
import threading
from typing import Any

import psycopg2
import pymongo
import redis
import requests

local = threading.local()
documents: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(os.environ["MONGODB_URI"])
values = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def row() -> dict[str, Any]:
    """Ask PostgreSQL."""
    if not hasattr(local, "connection"):
        local.connection = psycopg2.connect(os.environ["DATABASE_URL"])
        local.connection.autocommit = True
    with local.connection.cursor() as cursor:
        cursor.execute("SELECT id, message FROM bench WHERE id = %s", (1,))
        key, message = cursor.fetchone()
    return {"id": key, "message": message}


def document() -> dict[str, Any]:
    """Ask MongoDB."""
    found = documents.get_default_database("orders").bench.find_one({"_id": 1})
    assert found is not None
    return dict(found)


def value() -> dict[str, Any]:
    """Ask Redis."""
    return {"value": values.get("bench")}


def answer() -> dict[str, Any]:
    """Ask the web service."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    found: dict[str, Any] = local.session.get(os.environ["SLOW_URL"], timeout=10).json()
    return found


def everything() -> list[Any]:
    """Ask one after the other, as nothing else can be done in one thread."""
    return [row(), document(), value(), answer()]
