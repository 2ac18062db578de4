"""The counters example."""

import asyncio
from uuid import uuid4

import pytest
from quart.typing import TestClientProtocol as Client


async def test_simultaneous_requests_all_count(client: Client) -> None:
    path = f"/counters/test-{uuid4()}"

    answers = await asyncio.gather(*(client.post(path) for _ in range(20)))

    values = [(await answer.get_json())["value"] for answer in answers]
    assert sorted(values) == list(range(1, 21))
    assert (await (await client.get(path)).get_json())["value"] == 20


@pytest.mark.parametrize("name", ["A", "1", "a" * 65, "a%20b", "a%00b", "*"])
async def test_an_invalid_name_is_refused(client: Client, name: str) -> None:
    assert (await client.post(f"/counters/{name}")).status_code == 404
