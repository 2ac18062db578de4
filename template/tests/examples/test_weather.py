"""The weather example, against the development upstream."""

import pytest
from quart.typing import TestClientProtocol as Client


@pytest.mark.parametrize("city", ["Berlin", "New York", "São Paulo", "St. John's"])
async def test_the_weather_in_a_city(city: str, client: Client) -> None:
    response = await client.get(f"/weather/{city}")

    weather = await response.get_json()
    assert response.status_code == 200
    assert weather["city"] == city
    assert -60 < weather["temperature_c"] < 60


@pytest.mark.parametrize("city", ["1", "a" * 61, "..%2Fhealth", "a%00b", "a%3Fb"])
async def test_a_name_that_is_no_city(city: str, client: Client) -> None:
    assert (await client.get(f"/weather/{city}")).status_code == 404
