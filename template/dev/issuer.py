"""A stand-in for the issuer at AUTH_ISSUER: it gives everybody the token that they ask for.

GET /token                                   of "developer", with all permissions
GET /token?subject=ada&scope=invoices:read   of Ada, with this permission only
GET /token?seconds=-60                       one that has expired
"""

import os
import re
import time
import tomllib
from contextlib import closing
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

TITLE = "Issuer"
VARIABLE = "AUTH_ISSUER"

PROJECT = Path(__file__).resolve().parent.parent

LIFETIME = 12 * 3600
"""Seconds for which a token is valid by default."""


@cache
def token(url: str, scope: str | None = None, subject: str = "developer") -> str:
    """Return a token of the issuer at a URL, by default one with all permissions."""
    wanted = {"subject": subject} if scope is None else {"subject": subject, "scope": scope}
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=5)) as connection:
        connection.request("GET", f"/token?{urlencode(wanted)}")
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            raise RuntimeError(f"Unset {VARIABLE}: the issuer there gives no tokens for tests.")
        return response.read().decode()


def all_permissions() -> str:
    """Return the permissions that the source of the service names in `requires(...)`."""
    sources = [path.read_text(encoding="utf-8") for path in (PROJECT / "src").rglob("*.py")]
    calls = re.findall(r"\brequires\(([^)]*)\)", "\n".join(sources))
    return " ".join(sorted(set(re.findall(r'"([^"]+)"', " ".join(calls)))))


def audience() -> str:
    """Return what the service expects: AUTH_AUDIENCE, or its own name."""
    name: str = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["name"]
    return os.environ.get("AUTH_AUDIENCE") or name


def application(url: str) -> web.Application:
    """Return the issuer as it serves at a URL, with a new key."""
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)

    async def discovery(_request: web.Request) -> web.Response:
        return web.json_response({"issuer": url, "jwks_uri": f"{url}/keys"})

    async def keys(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.as_dict(private=False)]})

    async def give(request: web.Request) -> web.Response:
        now = int(time.time())
        claims = {
            "iss": url,
            "aud": audience(),
            "sub": request.query.get("subject", "developer"),
            "scope": request.query.get("scope", all_permissions()),
            "iat": now,
            "exp": now + int(request.query.get("seconds", LIFETIME)),
        }
        header = {"alg": "ES256", "kid": key.kid, "typ": "at+jwt"}
        return web.Response(text=jwt.encode(header, claims, key))

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/keys", keys)
    app.router.add_get("/token", give)
    return app
