"""Who may change the notes of the examples."""

from collections.abc import Callable

from quart.typing import TestClientProtocol as Client
from werkzeug.datastructures import Authorization


async def test_a_reader_changes_nothing(
    client: Client, caller: Callable[..., Authorization]
) -> None:
    created = await client.post("/notes", json={"title": "a note"})
    note = (await created.get_json())["id"]
    reader = caller("notes")

    assert created.status_code == 201
    assert (await client.get(f"/notes/{note}", auth=reader)).status_code == 200
    assert (await client.post("/notes", json={"title": "b"}, auth=reader)).status_code == 403
    for change in (client.put, client.delete):
        refused = await change(f"/notes/{note}", json={"title": "b"}, auth=reader)
        assert refused.status_code == 403
