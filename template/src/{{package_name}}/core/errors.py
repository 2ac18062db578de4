"""Errors: every error response is a problem document (RFC 9457) without internal details.

End a request with `abort(404, "There is no such note.")`. The client gets that text.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec
import structlog
from quart import Quart, Response
from werkzeug.exceptions import HTTPException

Failures: TypeAlias = Mapping[type[Exception], HTTPStatus | Callable[[Exception], HTTPStatus]]
"""The status for each error of a client library. A function chooses by the error itself; it returns
500 for what is a bug in this service."""

RETRY_AFTER = "1"
"""Seconds after which a client may retry a 503."""

DETAILS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value is out of range or cannot be stored.",
    HTTPStatus.BAD_GATEWAY: "An upstream service gave no usable response.",
    HTTPStatus.SERVICE_UNAVAILABLE: "A required backend is temporarily unavailable. Please retry.",
    HTTPStatus.GATEWAY_TIMEOUT: "The request took too long.",
}

log = structlog.stdlib.get_logger(__name__)


class BackendUnavailable(Exception):
    """A backend cannot be used now. The client gets a 503 and may retry."""


def init_app(app: Quart, *failures: Failures) -> None:
    """Answer every error with a problem document.

    failures: the errors of the client libraries, for each backend.
    """
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(BackendUnavailable, _failure(HTTPStatus.SERVICE_UNAVAILABLE))
    app.register_error_handler(TimeoutError, _failure(HTTPStatus.GATEWAY_TIMEOUT))
    for mapping in failures:
        for error, status in mapping.items():
            app.register_error_handler(error, _failure(status))


def document(status: int, detail: str | None, **members: Any) -> bytes:
    """Return a problem document as JSON; members: further fields."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode({"title": title, "status": status, "detail": detail, **members})


def problem(status: int, detail: str | None, **members: Any) -> Response:
    """Return a response with a problem document; members: further fields."""
    body = document(status, detail, **members)
    return Response(body, status, content_type="application/problem+json")


async def _http_error(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.response is not None:
        return error
    response = problem(error.code, error.description)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response


def _failure(
    status: HTTPStatus | Callable[[Exception], HTTPStatus],
) -> Callable[[Exception], Awaitable[Response]]:
    """Return an error handler that answers with the status and logs the error."""

    async def handle(error: Exception) -> Response:
        code = status(error) if callable(status) else status
        if code == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise error
        reason = str(error)
        log.warning("request failed", status=int(code), error=type(error).__name__, reason=reason)
        response = problem(code, DETAILS[code])
        if code == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = RETRY_AFTER
        return response

    return handle
