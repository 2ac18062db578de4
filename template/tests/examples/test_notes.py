"""The notes example, through its endpoints."""

from typing import Any
from uuid import uuid4

import pytest
from quart.typing import TestClientProtocol as Client


async def create(client: Client, **content: Any) -> Any:
    return await client.post("/notes", json={"title": f"note {uuid4()}"} | content)


async def test_a_note_lives_and_dies(client: Client) -> None:
    created = await create(client, title="Zoë's note", body="text")
    assert created.status_code == 201
    path = created.headers["Location"]
    note = await created.get_json()
    assert (note["title"], note["body"]) == ("Zoë's note", "text")

    assert await (await client.get(path)).get_json() == note

    replaced = await client.put(path, json={"title": "other"})
    assert await replaced.get_json() == note | {"title": "other", "body": ""}
    assert await (await client.get(path)).get_json() == await replaced.get_json()

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_pages_go_from_new_to_old(client: Client) -> None:
    ids = [(await (await create(client)).get_json())["id"] for _ in range(3)]

    first = await (await client.get("/notes?limit=2")).get_json()
    second = await (await client.get(first["next"])).get_json()

    assert [note["id"] for note in first["notes"]] == [ids[2], ids[1]]
    assert second["notes"][0]["id"] == ids[0]


async def test_the_last_page_has_no_next(client: Client) -> None:
    note = await (await create(client)).get_json()

    page = await (await client.get(f"/notes?before={note['id'] + 1}&limit=100")).get_json()
    while page["next"]:
        page = await (await client.get(page["next"])).get_json()

    assert page["next"] is None


async def test_content_that_does_not_fit(client: Client, subtests: pytest.Subtests) -> None:
    for content in ({}, {"title": ""}, {"title": "x" * 201}, {"title": 1}, {"title": "a\0b"}):
        with subtests.test(content=content):
            assert (await client.post("/notes", json=content)).status_code == 422


async def test_a_page_that_does_not_fit(client: Client, subtests: pytest.Subtests) -> None:
    for query in ("limit=0", "limit=101", "limit=x", "before=0", "before=" + "9" * 30):
        with subtests.test(query=query):
            assert (await client.get(f"/notes?{query}")).status_code == 422


async def test_a_note_that_is_not_there(client: Client, subtests: pytest.Subtests) -> None:
    for note_id in ("0", "9223372036854775807", "9223372036854775808", "x", "-1"):
        with subtests.test(note_id=note_id):
            path = f"/notes/{note_id}"
            assert (await client.get(path)).status_code == 404
            assert (await client.put(path, json={"title": "a"})).status_code == 404
            assert (await client.delete(path)).status_code == 404
