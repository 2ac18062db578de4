"""The errors of the client libraries, as clients of the service see them."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
from orders.backends import BACKENDS
from orders.core import errors
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .conftest import Lines
from .test_errors import problem_of


def failure(kind: type[Exception]) -> Exception:
    """Return an error of a client library, with a text that is not for clients."""
    try:
        return kind("password=secret")
    except TypeError:  # its constructor wants more
        members = {"__init__": lambda _: None, "__str__": lambda _: "password=secret"}
        error: Exception = type(kind.__name__, (kind,), members)()
        return error


FAILURES = [item for backend in BACKENDS for item in backend.failures.items()]


@pytest.mark.parametrize(
    ("kind", "status"), FAILURES, ids=[f"{kind.__module__}.{kind.__name__}" for kind, _ in FAILURES]
)
async def test_a_failed_backend_is_not_a_server_error(
    kind: type[Exception],
    status: Any,
    app: Quart,
    client: Client,
    logged: Callable[[], Awaitable[Lines]],
) -> None:
    """A function in place of a status chooses by the error: of an unknown one it makes a 500."""

    @app.get("/failing")
    async def failing() -> NoReturn:
        raise failure(kind)

    response = await client.get("/failing")

    expected = status(failure(kind)) if callable(status) else status
    assert response.status_code == expected
    assert response.headers.getlist("Retry-After") == ["1"] * (expected == 503)
    problem = await problem_of(response)
    assert "secret" not in str(problem)
    if expected != 500:
        assert problem["detail"] == errors.DETAILS[expected]
    warning, request = await logged()
    assert (warning["request_id"], request["status"]) == (request["request_id"], expected)
