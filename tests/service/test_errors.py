"""Errors, as clients see them: problem documents with the right status, and nothing internal."""

from http import HTTPStatus
from typing import Any, NoReturn

from orders.core.errors import BackendUnavailable
from quart import Quart, abort
from quart.typing import TestClientProtocol as Client


async def problem_of(response: Any) -> dict[str, Any]:
    """Return the problem document that a response holds."""
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = await response.get_json(force=True)
    assert document["status"] == response.status_code
    assert document["title"] == HTTPStatus(response.status_code).phrase
    return document


async def test_unknown_path(client: Client) -> None:
    response = await client.get("/nothing/here")

    assert response.status_code == 404
    await problem_of(response)


async def test_unknown_method_names_the_known_ones(client: Client) -> None:
    response = await client.delete("/health/live")

    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
    await problem_of(response)


async def test_the_text_of_a_handler_reaches_the_client(app: Quart, client: Client) -> None:
    @app.get("/taken")
    async def taken() -> NoReturn:
        abort(409, "The name is taken.")

    response = await client.get("/taken")

    assert response.status_code == 409
    assert (await problem_of(response))["detail"] == "The name is taken."


async def test_a_redirect_stays_a_redirect(app: Quart, client: Client) -> None:
    @app.get("/folder/")
    async def folder() -> str:
        return "folder"

    response = await client.get("/folder")

    assert response.status_code == 308
    assert response.headers["Location"].endswith("/folder/")


async def test_an_unexpected_error_keeps_its_text_to_itself(app: Quart, client: Client) -> None:
    @app.get("/broken")
    async def broken() -> NoReturn:
        raise RuntimeError("password=secret")

    response = await client.get("/broken")

    assert response.status_code == 500
    assert "secret" not in str(await problem_of(response))


async def test_an_unavailable_backend_may_be_asked_again(app: Quart, client: Client) -> None:
    @app.get("/failing/<kind>")
    async def failing(kind: str) -> NoReturn:
        raise BackendUnavailable("password=secret") if kind == "backend" else TimeoutError("secret")

    unavailable = await client.get("/failing/backend")
    late = await client.get("/failing/timeout")

    assert (unavailable.status_code, unavailable.headers["Retry-After"]) == (503, "1")
    assert late.status_code == 504
    assert "Retry-After" not in late.headers
    assert "secret" not in str(await problem_of(unavailable)) + str(await problem_of(late))
