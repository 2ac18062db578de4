"""Writes what the endpoints read."""

import asyncio
import os

import asyncpg

from .clients import Clients


async def main() -> None:
    """Write a row, a document and a value."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.execute("CREATE TABLE bench (id int PRIMARY KEY, message text NOT NULL)")
    await connection.execute(
        "INSERT INTO bench SELECT n, 'message ' || n FROM generate_series(1, 10000) n"
    )
    await connection.execute("ANALYZE bench")
    await connection.close()
    clients = Clients()
    async with clients.opened():
        documents = clients.mongo.get_default_database("orders").bench
        await documents.replace_one({"_id": 1}, {"_id": 1, "message": "hello"}, upsert=True)
        await clients.redis.set("bench", "hello")


asyncio.run(main())
