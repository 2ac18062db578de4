"""Who may call: every endpoint needs a token of the issuer, unless it says otherwise.

    blueprint = requires("invoices:read")(Blueprint("invoices", __name__, url_prefix="/invoices"))

    @blueprint.post("")
    @requires("invoices:write")
    async def create() -> dict[str, str]:
        return {"by": current_caller().subject}

What a handler says replaces what its blueprint says. `@public` serves everybody, and `@requires()`
every caller with a token. WebSockets and streams are checked once, when they begin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import structlog
from quart import Blueprint, Quart, Request, Response, Websocket, current_app, g, request, websocket
from quart_schema.openapi import HttpSecurityScheme
from werkzeug.routing import Rule

from .backends import issuer
from .backends.issuer import EXPIRED, InvalidToken
from .core.api import Documentation
from .core.errors import problem
from .core.serving import current_exchange

T = TypeVar("T", bound=Callable[..., Any] | Blueprint)

Needed: TypeAlias = frozenset[str] | None
"""The permissions that a caller needs. None: everybody is served."""

ATTRIBUTE = "_needed"
"""Where handlers and blueprints keep them."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who sends a request. subject: the ID that the issuer gives. claims: all of the token."""

    subject: str
    permissions: frozenset[str]
    claims: Mapping[str, Any]


def requires(*permissions: str) -> Callable[[T], T]:
    """Serve callers that have all these permissions, by a handler or a whole blueprint."""
    return lambda target: _marked(target, frozenset(permissions))


def public(target: T) -> T:
    """Serve everybody, by a handler or a whole blueprint."""
    return _marked(target, None)


def _marked(target: T, needed: Needed) -> T:
    setattr(target, ATTRIBUTE, needed)
    return target


def current_caller() -> Caller:
    """Return who sends the current request; raises RuntimeError if the endpoint is public."""
    if "caller" not in g:
        raise RuntimeError("This endpoint is @public: it serves requests without a caller.")
    caller: Caller = g.caller
    return caller


async def caller_of(token: str) -> Caller:
    """Return who sends a token, such as in the first message of a WebSocket.

    Raises InvalidToken, or BackendUnavailable as long as the service has no keys of the issuer.
    """
    client = issuer.BACKEND.client()
    claims = await client.verify(token)
    given = claims.get(client.permissions_claim)
    listed = given.split() if isinstance(given, str) else given
    permissions = frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()
    return Caller(claims["sub"], permissions, claims)


def undecided(app: Quart) -> set[str]:
    """Return the routes that say neither @requires nor @public. They serve callers with a token."""
    rules = app.url_map.iter_rules()
    return {rule.rule for rule in rules if not _stated(app, rule.endpoint)}


def init_app(app: Quart) -> None:
    """Admit only those who may call, and describe that in the OpenAPI document.

    What is there already serves everybody: the health checks and the documentation.
    """
    for handler in app.view_functions.values():
        public(handler)

    @app.before_request
    async def admit_request() -> Response | None:
        # Browsers ask without a token what they may send. Quart answers.
        rule = request.url_rule
        if request.method == "OPTIONS" and rule is not None and rule.provide_automatic_options:
            return None
        return await _admit(request)

    @app.before_websocket
    async def admit_websocket() -> Response | None:
        return await _admit(websocket)

    schema = app.extensions["QUART_SCHEMA"]
    schema.security_schemes = {"token": HttpSecurityScheme(scheme="bearer", bearer_format="JWT")}
    schema.openapi_provider = SecuredDocumentation(app, schema)


class SecuredDocumentation(Documentation):
    """The OpenAPI document, with the permissions that each endpoint needs."""

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe an endpoint."""
        paths, components = super().build_paths(rule)
        needed = _needed(current_app, rule.endpoint)
        for operations in paths.values():
            for operation in operations.values():
                operation["security"] = [] if needed is None else [{"token": sorted(needed)}]
        return paths, components


def _needed(app: Quart, endpoint: str) -> Needed:
    """Return what an endpoint needs: what it says, or else a token."""
    return next(iter(_stated(app, endpoint)), frozenset())


def _stated(app: Quart, endpoint: str) -> list[Needed]:
    """Return what the handler of an endpoint says, and then its blueprints, the innermost first."""
    targets: list[object] = [app.view_functions[endpoint]]
    while endpoint := endpoint.rpartition(".")[0]:
        targets.append(app.blueprints.get(endpoint))
    return [getattr(target, ATTRIBUTE) for target in targets if hasattr(target, ATTRIBUTE)]


async def _admit(asked: Request | Websocket) -> Response | None:
    """Note the caller of a request or a WebSocket, or answer 401 or 403."""
    if asked.url_rule is None:
        return None  # a 404 or a 405
    needed = _needed(current_app, asked.url_rule.endpoint)
    if needed is None:
        return None
    given = asked.headers.getlist("Authorization")
    if not given:
        return _refuse(401, "Send a token, as in Authorization: Bearer ...")
    scheme, _, token = given[0].partition(" ")
    try:
        if len(given) > 1 or scheme.lower() != "bearer":
            raise InvalidToken("not one bearer token")
        g.caller = caller = await caller_of(token.strip())
    except InvalidToken as error:
        log.info("token refused", reason=str(error))
        detail = "The token has expired." if str(error) == EXPIRED else "The token is not valid."
        return _refuse(401, detail, error="invalid_token")
    structlog.contextvars.bind_contextvars(caller=caller.subject)
    current_exchange.get().line["caller"] = caller.subject
    if missing := needed - caller.permissions:
        scope = " ".join(sorted(needed))
        detail = f"The token lacks the permission {min(missing)}."
        return _refuse(403, detail, error="insufficient_scope", scope=scope)
    return None


def _refuse(status: int, detail: str, **parameters: str) -> Response:
    response = problem(status, detail)
    listed = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    response.headers["WWW-Authenticate"] = f"Bearer {listed}".strip()
    return response
