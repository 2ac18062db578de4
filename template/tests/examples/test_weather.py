"""The weather example, against the development upstream."""

import pytest
from quart.typing import TestClientProtocol as Client


async def test_the_weather_in_a_city(client: Client, subtests: pytest.Subtests) -> None:
    for city in ("Berlin", "New York", "São Paulo", "St. John's"):
        with subtests.test(city=city):
            response = await client.get(f"/weather/{city}")
            weather = await response.get_json()
            assert response.status_code == 200
            assert weather["city"] == city
            assert -60 < weather["temperature_c"] < 60


async def test_a_name_that_is_no_city(client: Client, subtests: pytest.Subtests) -> None:
    for name in ("1", "a" * 61, "..%2Fhealth", "a%00b", "a%3Fb"):
        with subtests.test(name=name):
            assert (await client.get(f"/weather/{name}")).status_code == 404
