"""The weather example, with the development upstream."""

import pytest
from quart.typing import TestClientProtocol as Client


@pytest.mark.parametrize("city", ["Berlin", "New York", "São Paulo", "St. John's"])
async def test_the_weather_in_a_city(client: Client, city: str) -> None:
    response = await client.get(f"/weather/{city}")

    weather = await response.get_json()
    assert response.status_code == 200
    assert weather["city"] == city
    assert -60 < weather["temperature_c"] < 60


@pytest.mark.parametrize("name", ["1", "a" * 61, "..%2Fhealth", "a%00b", "a%3Fb"])
async def test_an_invalid_city_is_refused(client: Client, name: str) -> None:
    assert (await client.get(f"/weather/{name}")).status_code == 404
