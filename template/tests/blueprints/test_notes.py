"""The notes example."""

from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client


async def create(client: Client, **content: Any) -> Any:
    response = await client.post("/notes", json={"title": "a note"} | content)
    assert response.status_code == 201
    return await response.get_json()


async def test_a_note_is_created_read_replaced_and_deleted(client: Client) -> None:
    note = await create(client, title="Zoë's note", body="text")
    path = f"/notes/{note['id']}"
    assert await (await client.get(path)).get_json() == note

    replaced = await client.put(path, json={"title": "other"})
    assert await replaced.get_json() == note | {"title": "other", "body": ""}

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_pages_go_from_new_to_old(client: Client) -> None:
    ids = [(await create(client))["id"] for _ in range(3)]

    first = await (await client.get("/notes?limit=2")).get_json()
    second = await (await client.get(first["next"])).get_json()

    assert [note["id"] for note in first["notes"]] == [ids[2], ids[1]]
    assert second["notes"][0]["id"] == ids[0]


@pytest.mark.parametrize("title", ["", "x" * 201, 1, "a\0b", None])
async def test_an_invalid_note_is_refused(client: Client, title: object) -> None:
    response = await client.post("/notes", json={"title": title})

    problem = await response.get_json(force=True)
    assert response.status_code == 422
    assert problem["errors"][0]["field"] == "title"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", f"before={2**63}"])
async def test_an_invalid_page_is_refused(client: Client, query: str) -> None:
    assert (await client.get(f"/notes?{query}")).status_code == 422
