"""The events example."""

from typing import Any
from uuid import uuid4

import pytest
from quart.typing import TestClientProtocol as Client


@pytest.fixture
def kind() -> str:
    """Return a kind of event that no other test uses."""
    return f"kind-{uuid4()}"


async def append(client: Client, kind: str, amount: float) -> Any:
    response = await client.post("/events", json={"kind": kind, "amount": amount})
    assert response.status_code == 201
    return await response.get_json()


async def test_events_of_a_kind_are_listed_and_summed_up(client: Client, kind: str) -> None:
    events = [await append(client, kind, amount) for amount in (1, 2.5)]
    await append(client, f"{kind}-other", 4)

    listed = await (await client.get(f"/events?kind={kind}")).get_json()
    summary = await (await client.get("/events/summary")).get_json()

    ids = {event["id"] for event in listed["events"]}
    (mine,) = (entry for entry in summary["kinds"] if entry["kind"] == kind)
    assert ids == {event["id"] for event in events}
    assert (mine["count"], mine["amount"]) == (2, 3.5)


@pytest.mark.parametrize("kind", ["", "$where", {"$ne": ""}, None])
async def test_an_invalid_event_is_refused(client: Client, kind: object) -> None:
    assert (await client.post("/events", json={"kind": kind})).status_code == 422


@pytest.mark.parametrize("query", ["", "kind=", "kind[$ne]=a", "kind=a&limit=101"])
async def test_an_invalid_selection_is_refused(client: Client, query: str) -> None:
    assert (await client.get(f"/events?{query}")).status_code == 422
