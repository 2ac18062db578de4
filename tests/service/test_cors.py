"""Calls from the pages of other origins: what browsers need is right, also on errors."""

from collections.abc import Callable

import pytest
from quart import Quart, websocket

SHOP = "https://shop.example.org"


@pytest.fixture
def app(create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch) -> Quart:
    monkeypatch.setenv("CORS_ORIGINS", f" {SHOP} , http://127.0.0.1:3000")
    monkeypatch.setenv("TRUSTED_HOSTS", "localhost")
    app = create_app()

    @app.put("/things")
    async def things() -> str:
        return "done"

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError

    @app.websocket("/hello")
    async def hello() -> None:
        await websocket.send("hello")

    return app


RESPONSES: list[tuple[str, str, dict[str, str], int]] = [
    ("PUT", "/things", {}, 200),
    ("POST", "/things", {}, 405),
    ("GET", "/missing", {}, 404),
    ("GET", "/broken", {}, 500),
    ("GET", f"/things?{'x' * 5000}", {}, 414),
    ("GET", "/things", {"Host": "evil.test"}, 400),
    ("GET", "/things", {"X-Large": "x" * 70_000}, 431),
]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"), RESPONSES, ids=(str(each[3]) for each in RESPONSES)
)
async def test_a_page_may_read_each_response(
    method: str, path: str, headers: dict[str, str], status: int, app: Quart
) -> None:
    async with app.test_app():
        send = getattr(app.test_client(), method.lower())
        response = await send(path, headers={"Origin": SHOP} | headers)

    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Access-Control-Expose-Headers"] == "*"
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in response.headers


async def test_an_origin_may_be_written_as_an_address(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://Shop.example.org/")
    app = create_app()
    async with app.test_app():
        response = await app.test_client().get("/health/live", headers={"Origin": SHOP})
    assert response.headers["Access-Control-Allow-Origin"] == SHOP


async def test_a_browser_may_ask_first(app: Quart) -> None:
    asks = {
        "Origin": SHOP,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with app.test_app():
        response = await app.test_client().options("/things", headers=asks)

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Access-Control-Allow-Methods"] == "*"
    # The star leaves out this one: https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name
    assert response.headers["Access-Control-Allow-Headers"] == "*, Authorization"


@pytest.mark.parametrize("origin", ["https://evil.test", f"{SHOP}.evil.test", "null", ""])
async def test_other_pages_may_not(origin: str, app: Quart) -> None:
    asks = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    async with app.test_app():
        client = app.test_client()
        for response in (
            await client.options("/things", headers=asks),
            await client.put("/things", headers={"Origin": origin}),
        ):
            assert "access-control" not in str(response.headers).lower()
            assert response.headers["Vary"] == "Origin"


async def test_all_pages_may_if_that_is_wanted(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "*")
    app = create_app()
    async with app.test_app():
        response = await app.test_client().get("/health/live", headers={"Origin": SHOP})

    assert response.headers["Access-Control-Allow-Origin"] == SHOP


async def test_by_default_no_page_may(create_app: Callable[[], Quart]) -> None:
    app = create_app()
    async with app.test_app():
        response = await app.test_client().get("/health/live", headers={"Origin": SHOP})

    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Vary" not in response.headers


async def test_clients_that_are_no_browsers_open_websockets(app: Quart) -> None:
    async with app.test_app(), app.test_client().websocket("/hello") as connection:
        assert await connection.receive() == "hello"
