"""Tokens: which are accepted, and what becomes of all others."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as Server
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from orders.auth import caller_of, current_caller, public, requires, undecided
from orders.backends import issuer as backend
from quart import Blueprint, Quart, websocket
from quart.testing.connections import WebsocketResponseError

AUDIENCE = "orders-test"

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
OKP = OKPKey.generate_key("Ed25519", {"kid": "okp"})
OKP_NAMED = OKPKey.generate_key("Ed25519", {"kid": "okp-named", "alg": "EdDSA"})
KEYS = (RSA, EC, OKP, OKP_NAMED)
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
UNKNOWN = RSAKey.generate_key(2048, {"kid": "unknown"})


class Issuer:
    """An issuer whose keys the test changes, and which the test halts and counts."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = [key.as_dict(private=False) for key in KEYS]
        self.asked = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.name = ""
        app = web.Application()
        app.router.add_get("/tenant/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/keys", self.keys)
        self.server = Server(app)

    async def discovery(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.goes_on.wait()
        keys = str(self.server.make_url("/keys"))
        return web.json_response({"issuer": self.name, "jwks_uri": keys})

    async def keys(self, _request: web.Request) -> web.Response:
        await self.goes_on.wait()
        return web.json_response({"keys": self.published})

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.name, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 60}
        claims |= {"scope": "things:read things:write"} | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key: Any = RSA, header: dict[str, Any] | None = None, **changed: Any) -> str:
        algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[key.key_type]
        header = {"alg": algorithm, "kid": key.kid} | (header or {})
        sign = JWSRegistry.algorithms[header["alg"]].sign
        return signed(header, self.claims(**changed), lambda text: sign(text, key))


def signed(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """Return a token with whatever is in it, as an attacker would make it."""

    def encoded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = encoded(json.dumps(header).encode()) + b"." + encoded(payload)
    return (text + b"." + encoded(sign(text))).decode()


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Issuer]:
    """Return an issuer, which the app uses."""
    issuer = Issuer()
    async with issuer.server:
        issuer.name = str(issuer.server.make_url("/tenant"))
        monkeypatch.setenv("AUTH_ISSUER", issuer.name)
        monkeypatch.setenv("AUTH_AUDIENCE", AUDIENCE)
        monkeypatch.setattr(backend, "PAUSE", 0.1)
        yield issuer
        issuer.goes_on.set()


@pytest.fixture
def app(issuer: Issuer, create_app: Callable[[], Quart]) -> Quart:
    app = create_app()

    @app.get("/things")
    @requires("things:read")
    async def things() -> dict[str, str]:
        return {"for": current_caller().subject}

    return app


async def ask(app: Quart, *tokens: str, path: str = "/things") -> Any:
    """Send tokens, each in a header of its own. One may begin with another scheme."""
    headers = [
        (b"authorization", (token if " " in token else f"Bearer {token}").encode())
        for token in tokens
    ]
    scope: Any = {"headers": [(b"host", b"localhost"), *headers]}
    return await app.test_client().get(path, auth=None, scope_base=scope)


async def read_keys(app: Quart) -> None:
    """Wait until the app knows the keys of the issuer."""
    async with app.app_context():
        await asyncio.wait([backend.BACKEND.client().read_keys()])


@asynccontextmanager
async def serving(app: Quart) -> AsyncIterator[None]:
    async with app.test_app():
        await read_keys(app)
        yield


def unsigned(issuer: Issuer, algorithm: str) -> str:
    """Return a token without a signature."""
    return signed({"alg": algorithm, "kid": "rsa"}, issuer.claims(), lambda _: b"")


def with_public_key_as_secret(issuer: Issuer) -> str:
    """Return a token signed with what everybody knows, as if it were a secret."""
    secret = RSA.as_pem(private=False)
    header = {"alg": "HS256", "kid": "rsa"}
    return signed(header, issuer.claims(), lambda text: hmac.digest(secret, text, "sha256"))


def deeply_nested(_issuer: Issuer) -> str:
    """Return a token that the issuer signed, whose claims a parser cannot follow."""
    sign = JWSRegistry.algorithms["RS256"].sign
    return signed({"alg": "RS256", "kid": "rsa"}, b"[" * 5_000, lambda text: sign(text, RSA))


def changed_after_signing(issuer: Issuer) -> str:
    """Return a token with the signature of another one."""
    header, _, signature = issuer.token().split(".")
    return ".".join([header, issuer.token(sub="root").split(".")[1], signature])


ATTACKS: dict[str, str | Callable[[Issuer], str | tuple[str, ...]]] = {
    "expired": lambda it: it.token(exp=int(time.time()) - 60),
    "without an end": lambda it: it.token(exp=None),
    "not yet valid": lambda it: it.token(nbf=int(time.time()) + 60),
    "issued in the future": lambda it: it.token(iat=int(time.time()) + 60),
    "wrong audience": lambda it: it.token(aud="payments"),
    "wrong audiences": lambda it: it.token(aud=["payments", f"{AUDIENCE}-2"]),
    "no audience": lambda it: it.token(aud=None),
    "wrong issuer": lambda it: it.token(iss="https://evil.test"),
    "issuer with a slash": lambda it: it.token(iss=f"{it.name}/"),
    "no issuer": lambda it: it.token(iss=None),
    "no subject": lambda it: it.token(sub=None),
    "a subject that is no text": lambda it: it.token(sub=1),
    "algorithm confusion": with_public_key_as_secret,
    "none": lambda it: unsigned(it, "none"),
    "None": lambda it: unsigned(it, "None"),
    "no signature": lambda it: unsigned(it, "RS256"),
    "changed after signing": changed_after_signing,
    "deeply nested": deeply_nested,
    "unknown key": lambda it: it.token(UNKNOWN),
    "another key of that ID": lambda it: it.token(OTHER_RSA),
    "key in the header": lambda it: it.token(
        UNKNOWN, {"jwk": UNKNOWN.as_dict(private=False), "kid": "rsa"}
    ),
    "key at an address": lambda it: it.token(UNKNOWN, {"jku": "https://evil.test/keys"}),
    "key of another kind": lambda it: it.token(RSA, {"kid": "ec"}),
    "no key ID": lambda it: it.token(header={"kid": ""}),
    "token of another kind": lambda it: it.token(header={"typ": "logout+jwt"}),
    "critical header": lambda it: it.token(header={"crit": ["exp"], "exp": 1}),
    "oversized": lambda it: it.token(padding="x" * 20_000),
    "oversized and empty": "x" * 20_000,
    "duplicated header": lambda it: (it.token(), it.token()),
    "header after another": lambda it: ("Basic YTpi", it.token()),
    "lower-case scheme": lambda it: f"bearer {it.token(UNKNOWN)}",
    "another scheme": lambda it: f"Basic {it.token()}",
    "two tokens in one header": lambda it: f"Bearer {it.token()} {it.token()}",
    "empty": "Bearer ",
    "no token": "Bearer abc",
    "not ASCII": "Bearer \xe4.\xe4.\xe4",
    "a header that is a list": "WyJhbGciXQ.e30.e30",
    "a header that is a number": "MQ.e30.e30",
    "algorithm of another kind": "eyJhbGciOnt9fQ.e30.e30",
    "type of another kind": "eyJhbGciOiJSUzI1NiIsInR5cCI6MX0.e30.e30",
    "encrypted": "a.b.c.d.e",
}


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen issuer"])
async def test_each_attack_gets_a_401(
    frozen: bool, app: Quart, issuer: Issuer, logged: Callable[[], Any]
) -> None:
    async with serving(app):
        await asyncio.sleep(backend.PAUSE)
        if frozen:
            issuer.goes_on.clear()
        await ask(app, issuer.token())
        await logged()
        for attack, make in ATTACKS.items():
            made = make if isinstance(make, str) else make(issuer)
            tokens = (made,) if isinstance(made, str) else made

            began = perf_counter()
            response = await ask(app, *tokens)
            took = perf_counter() - began

            text = await response.get_data(as_text=True)
            lines = await logged()
            assert response.status_code == 401, f"{attack}: {text}"
            assert response.content_type == "application/problem+json", attack
            assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"', attack
            assert took < 0.05, attack
            assert not [line for line in lines if "exception" in line], attack
            seen = json.dumps(lines) + text
            assert not [token for token in tokens if len(token) > 10 and token in seen], attack
        assert (await ask(app, issuer.token())).status_code == 200


ACCEPTED: dict[str, Callable[[Issuer], str]] = {
    "as usual": lambda it: it.token(),
    "another algorithm of the key": lambda it: it.token(header={"alg": "PS384"}),
    "another key": lambda it: it.token(EC),
    "Ed25519": lambda it: it.token(OKP),
    "Ed25519 by its old name": lambda it: it.token(OKP, header={"alg": "EdDSA"}),
    "a key with that name": lambda it: it.token(OKP_NAMED, header={"alg": "EdDSA"}),
    "lower-case scheme": lambda it: f"bearer {it.token()}",
    "several audiences": lambda it: it.token(aud=["payments", AUDIENCE]),
    "within the leeway": lambda it: it.token(exp=int(time.time()) - 20, nbf=int(time.time()) + 20),
    "of RFC 9068": lambda it: it.token(header={"typ": "at+jwt"}),
    "an unknown header": lambda it: it.token(header={"nonce": "abc"}),
}


@pytest.mark.parametrize("token", ACCEPTED.values(), ids=ACCEPTED)
async def test_each_right_token_is_accepted(
    token: Callable[[Issuer], str], app: Quart, issuer: Issuer
) -> None:
    async with serving(app):
        response = await ask(app, token(issuer))

    assert await response.get_json() == {"for": "ada"}


async def test_who_calls_is_in_the_log_and_the_token_is_not(
    app: Quart, issuer: Issuer, logged: Callable[[], Any]
) -> None:
    async with serving(app):
        await logged()
        token = issuer.token()
        await ask(app, token)
        await ask(app)

    served, refused = await logged()
    assert (served["caller"], served["status"]) == ("ada", 200)
    assert "caller" not in refused
    assert token not in json.dumps(served)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("things:read x", 200),
        (["things:read", "x"], 200),
        ("things:reader x", 403),
        ([], 403),
        (None, 403),
        (7, 403),
        ({"things:read": True}, 403),
    ],
)
async def test_the_permissions_of_a_token(
    given: Any, status: int, issuer: Issuer, app: Quart
) -> None:
    async with serving(app):
        response = await ask(app, issuer.token(scope=given))

    assert response.status_code == status
    if status == 403:
        challenge = response.headers["WWW-Authenticate"]
        assert challenge == 'Bearer error="insufficient_scope", scope="things:read"'
        assert (await response.get_json(force=True))["detail"].endswith("permission things:read.")


async def test_no_token_gets_a_401_that_names_the_scheme(app: Quart) -> None:
    async with serving(app):
        response = await ask(app)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (await response.get_json(force=True))["title"] == "Unauthorized"


async def test_an_expired_token_says_so(app: Quart, issuer: Issuer) -> None:
    async with serving(app):
        response = await ask(app, issuer.token(exp=1))

    assert (await response.get_json(force=True))["detail"] == "The token has expired."


async def test_new_keys_are_found_and_old_ones_forgotten(
    app: Quart, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine takes longer to read them.
    monkeypatch.setattr(backend, "WAIT", 1.0)
    async with serving(app):
        await asyncio.sleep(0.1)
        issuer.published = [UNKNOWN.as_dict(private=False)]
        new = await ask(app, issuer.token(UNKNOWN))
        old = await ask(app, issuer.token(RSA))

    assert (new.status_code, old.status_code) == (200, 401)


async def test_forged_key_ids_do_not_flood_the_issuer(app: Quart, issuer: Issuer) -> None:
    async with serving(app):
        asked, began = issuer.asked, perf_counter()
        for _ in range(100):
            await asyncio.gather(*(ask(app, issuer.token(UNKNOWN)) for _ in range(3)))
        most = (perf_counter() - began) / backend.PAUSE + 1

    assert issuer.asked - asked <= most


@pytest.mark.parametrize("away", ["frozen", "gone"])
async def test_tokens_are_accepted_while_the_issuer_is_away(
    away: str, app: Quart, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "MAX_AGE", 0.0)
    async with serving(app):
        if away == "gone":
            await issuer.server.close()
        issuer.goes_on.clear()
        await asyncio.sleep(0.1)
        for _ in range(3):
            began = perf_counter()
            response = await ask(app, issuer.token())
            assert perf_counter() - began < 0.05
            assert response.status_code == 200
        issuer.goes_on.set()


async def test_the_service_starts_without_the_issuer_and_finds_it_later(
    create_app: Callable[[], Quart], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_TIMEOUT", "0.2")
    monkeypatch.setattr(backend, "RETRY", 0.1)
    issuer.goes_on.clear()
    app = create_app()

    @app.get("/things")
    async def things() -> str:
        return current_caller().subject

    async with app.test_app():
        client = app.test_client()
        away = await ask(app, issuer.token())
        ready = await client.get("/health/ready", auth=None)
        issuer.goes_on.set()
        await asyncio.sleep(0.2)
        back = await ask(app, issuer.token())
        ready_again = await client.get("/health/ready", auth=None)

    assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
    assert back.status_code == 200
    reports = [(await each.get_json())["backends"]["issuer"] for each in (ready, ready_again)]
    assert [report["status"] for report in reports] == ["unavailable", "ok"]
    assert ready.status_code == 200


STRANGE: list[dict[str, Any]] = [
    {},
    {"kty": "AKP", "kid": "future"},
    {"kty": "EC", "crv": "P-999", "kid": "future"},
    {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "future"},
    {"kty": "OKP", "crv": "Ed999", "x": "AA", "kid": "future"},
    {"kty": "oct", "k": "c2VjcmV0c2VjcmV0", "kid": "symmetric"},
    {"kty": "RSA", "kid": "broken"},
    UNKNOWN.as_dict(private=False) | {"use": "enc"},
]


async def test_keys_of_other_kinds_are_ignored(app: Quart, issuer: Issuer) -> None:
    issuer.published += STRANGE
    async with serving(app):
        assert (await ask(app, issuer.token())).status_code == 200
        assert (await ask(app, issuer.token(UNKNOWN))).status_code == 401


@pytest.mark.parametrize("published", [[], STRANGE], ids=["none", "strange"])
async def test_the_last_good_keys_are_kept(
    published: list[dict[str, Any]], app: Quart, issuer: Issuer, logged: Callable[[], Any]
) -> None:
    async with serving(app):
        issuer.published = published
        await asyncio.sleep(0.1)
        await read_keys(app)
        assert (await ask(app, issuer.token())).status_code == 200
        assert "issuer unavailable" in [line["event"] for line in await logged()]


async def test_an_issuer_with_another_name_is_refused_and_the_log_says_it(
    create_app: Callable[[], Quart],
    issuer: Issuer,
    logged: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTH_ISSUER", f"{issuer.name}/")
    app = create_app()
    async with serving(app):
        assert (await ask(app, issuer.token(), path="/none")).status_code == 404

    (line,) = [line for line in await logged() if line["event"] == "issuer unavailable"]
    assert f"AUTH_ISSUER must be '{issuer.name}'" in line["reason"]


@pytest.mark.parametrize("url", ["", "login.example.org", "ftp://a.test", "https://a.test?b=c"])
def test_a_wrong_issuer_stops_the_start(
    url: str, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_ISSUER", url)

    with pytest.raises(SystemExit, match=r"\AAUTH_ISSUER: .*https://login.example.org\Z"):
        create_app()


@pytest.fixture
def rooms(app: Quart) -> Quart:
    """Return an app whose endpoints say different things, or nothing."""
    outer = requires("outer")(Blueprint("outer", __name__, url_prefix="/outer"))
    inner = Blueprint("inner", __name__, url_prefix="/inner")
    other = public(Blueprint("other", __name__, url_prefix="/other"))
    silent = Blueprint("silent", __name__, url_prefix="/silent")

    async def handler() -> str:
        return "served"

    def named(statement: Callable[[Any], Any]) -> Any:
        async def handle() -> str:
            return "served"

        return statement(handle)

    outer.get("", endpoint="as_blueprint")(handler)
    outer.get("/own", endpoint="own")(named(requires("own")))
    outer.get("/public", endpoint="public")(named(public))
    inner.get("", endpoint="nested")(handler)
    other.get("", endpoint="as_blueprint")(handler)
    other.get("/any", endpoint="any")(named(requires()))
    other.get("/both", endpoint="both")(named(requires("a", "b")))
    silent.get("", endpoint="nothing")(handler)
    outer.register_blueprint(inner)
    for blueprint in (outer, other, silent):
        app.register_blueprint(blueprint)
    return app


EVERYBODY = None

ROOMS: list[tuple[str, str | None, int]] = [
    ("/outer", "outer", 200),
    ("/outer", "own", 403),
    ("/outer", EVERYBODY, 401),
    ("/outer/own", "own", 200),
    ("/outer/own", "outer", 403),
    ("/outer/public", EVERYBODY, 200),
    ("/outer/inner", "outer", 200),
    ("/outer/inner", "x", 403),
    ("/other", EVERYBODY, 200),
    ("/other/any", EVERYBODY, 401),
    ("/other/any", "", 200),
    ("/other/both", "a", 403),
    ("/other/both", "b a c", 200),
    ("/silent", EVERYBODY, 401),
    ("/silent", "", 200),
    ("/missing", EVERYBODY, 404),
    ("/health/live", EVERYBODY, 200),
    ("/health/ready", EVERYBODY, 200),
    ("/docs", EVERYBODY, 200),
    ("/docs/swagger-ui.css", EVERYBODY, 200),
    ("/openapi.json", EVERYBODY, 200),
]


@pytest.mark.parametrize(("path", "scope", "status"), ROOMS)
async def test_what_an_endpoint_or_its_blueprint_says_decides(
    path: str, scope: str | None, status: int, rooms: Quart, issuer: Issuer
) -> None:
    async with serving(rooms):
        tokens = [] if scope is EVERYBODY else [issuer.token(scope=scope)]
        response = await ask(rooms, *tokens, path=path)

    assert response.status_code == status


def test_endpoints_that_say_nothing_are_named(rooms: Quart) -> None:
    assert undecided(rooms) == {"/silent"}


async def test_the_api_describes_who_may_call(rooms: Quart) -> None:
    async with serving(rooms):
        document = await (await ask(rooms, path="/openapi.json")).get_json()

    needed = {
        path: operation["get"]["security"]
        for path, operation in document["paths"].items()
        if "get" in operation
    }
    (scheme,) = document["components"]["securitySchemes"].items()
    assert scheme == ("token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    assert needed["/outer/own"] == [{"token": ["own"]}]
    assert needed["/outer/inner"] == [{"token": ["outer"]}]
    assert needed["/silent"] == [{"token": []}]
    assert needed["/other"] == needed["/health/ready"] == []


async def test_browsers_ask_without_a_token_and_read_the_refusal(
    create_app: Callable[[], Quart], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = "https://shop.example.org"
    monkeypatch.setenv("CORS_ORIGINS", shop)
    app = create_app()

    @app.put("/things")
    async def things() -> str:
        return "done"

    async with serving(app):
        client = app.test_client()
        asks = {"Origin": shop, "Access-Control-Request-Method": "PUT"}
        preflight = await client.options("/things", headers=asks, auth=None)
        refused = await client.put("/things", headers={"Origin": shop}, auth=None)

    assert (preflight.status_code, refused.status_code) == (200, 401)
    for response in (preflight, refused):
        assert response.headers["Access-Control-Allow-Origin"] == shop


async def test_handlers_of_options_are_checked(app: Quart) -> None:
    @app.route("/own", methods=["OPTIONS"])
    async def own() -> str:
        return "served"

    async with serving(app):
        assert (await app.test_client().options("/own", auth=None)).status_code == 401


async def test_websockets_are_checked_before_they_open(
    app: Quart, issuer: Issuer, logged: Callable[[], Any]
) -> None:
    @app.websocket("/echo")
    @requires("things:read")
    async def echo() -> None:
        await websocket.send(current_caller().subject)

    @app.websocket("/first-message")
    @public
    async def first_message() -> None:
        caller = await caller_of(str(await websocket.receive()))
        await websocket.send(caller.subject)

    async def connect(path: str, token: str = "", message: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = app.test_client()
        async with client.websocket(path, headers=headers, auth=None) as connection:
            if message:
                await connection.send(message)
            try:
                return await connection.receive()
            except WebsocketResponseError as error:
                return error.response.status_code

    async with serving(app):
        await logged()
        answers = [
            await connect("/echo"),
            await connect("/echo", issuer.token(UNKNOWN)),
            await connect("/echo", issuer.token(scope="x")),
            await connect("/echo", issuer.token()),
            await connect("/first-message", message=issuer.token(sub="eve")),
        ]

    assert answers == [401, 401, 403, "ada", "eve"]
    lines = [line for line in await logged() if line["event"] == "websocket"]
    assert [line.get("caller") for line in lines] == [None, None, "ada", "ada", None]


async def test_a_public_endpoint_has_no_caller(app: Quart, issuer: Issuer) -> None:
    @app.get("/open")
    @public
    async def open_() -> str:
        with pytest.raises(RuntimeError, match="@public"):
            current_caller()
        return "open"

    async with serving(app):
        assert (await ask(app, issuer.token(), path="/open")).status_code == 200
