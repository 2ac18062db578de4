"""The welcome page of the examples."""

import re

from quart.typing import TestClientProtocol as Client


async def test_the_page_names_every_backend_and_its_state(client: Client) -> None:
    report = await (await client.get("/health/ready")).get_json()

    response = await client.get("/")

    html = await response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert re.findall(r"<li>(\w+): (?:ok|unavailable), [\d.]+ ms", html) == list(report["backends"])
    assert html.count(": ok, ") == len(report["backends"])


async def test_every_link_of_the_page_leads_somewhere(client: Client) -> None:
    html = await (await client.get("/")).get_data(as_text=True)

    links = re.findall(r'<a href="([^"]*)"', html)
    assert {"docs", "health/ready"} <= set(links)
    for link in links:
        assert (await client.get(f"/{link}")).status_code == 200, link


async def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    response = await client.get("/")

    html = await response.get_data(as_text=True)
    policy = response.headers["Content-Security-Policy"]
    assert "//" not in html
    assert "unsafe" not in policy
    assert "<script>" not in html
    assert "<style>" not in html
    for nonce in re.findall(r'nonce="([^"]+)"', html):
        assert f"'nonce-{nonce}'" in policy
    assert policy not in (await client.get("/")).headers.values()
