"""The issuer of the tokens that callers send, and their verification, by joserfc.

The keys of the issuer are found by OpenID Connect Discovery. They are kept while it is away. The
session is one of its own, so that nothing meant for another service is sent to the issuer.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Annotated, Any

import aiohttp
import structlog
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry
from pydantic import Field, NonNegativeInt, SecretStr
from pydantic_settings import SettingsConfigDict
from yarl import URL

from ..core import PROJECT
from ..core.errors import BackendUnavailable
from ..core.settings import EnvSettings, Seconds
from .base import Backend, parsed_by

EXAMPLE = "https://login.example.org"

DISCOVERY = "/.well-known/openid-configuration"

REGISTRY = JWSRegistry(
    # Asymmetric ones only: a symmetric one would take the public key for a shared secret.
    algorithms=[
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
    ],
    strict_check_header=False,
)

# Many issuers still write the name that Ed25519 had before RFC 9864. joserfc would warn each time.
JWSRegistry.algorithms["EdDSA"].security_warning = None

KEY_TYPES = frozenset({"RSA", "EC", "OKP"})

TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
"""What the header `typ` may say, if it is there: RFC 9068, and JWT, which many issuers write."""

MAX_TOKEN = 16 * 1024
"""Characters in a token. No token of a known issuer comes near."""

MAX_AGE = 300.0
"""Seconds after which keys are read again, while the service goes on with those that it has."""

PAUSE = 5.0
"""Seconds between two readings at least, so that forged key IDs cannot flood the issuer."""

RETRY = 1.0
"""The same after a reading that failed."""

WAIT = 0.02
"""Seconds that a token with an unknown key ID waits for a reading. Then it is refused."""

EXPIRED = "expired"

log = structlog.stdlib.get_logger(__name__)


def _parse(url: str) -> None:
    parsed = URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query_string:
        raise ValueError


class IssuerSettings(EnvSettings):
    """The variables that begin with AUTH_."""

    model_config = SettingsConfigDict(env_prefix="AUTH_")

    url: Annotated[SecretStr, parsed_by(_parse, EXAMPLE)] = Field(
        validation_alias="AUTH_ISSUER", examples=[EXAMPLE]
    )
    """The address of the issuer, exactly as the claim `iss` of its tokens has it."""

    audience: str = ""
    """What the claim `aud` of a token must name. By default this is the name of the service."""

    permissions_claim: str = "scope"
    """The claim with the permissions of a caller: text with spaces between them, or a list."""

    leeway: NonNegativeInt = 30
    """Seconds by which the clock of the issuer may be wrong."""

    timeout: Seconds = 2.0
    """Seconds that reading the keys of the issuer may take."""


class InvalidToken(Exception):
    """A token that the service does not accept. The message says why, without the token."""


class Issuer:
    """The issuer: its keys, and the verification of its tokens."""

    def __init__(self, settings: IssuerSettings, session: aiohttp.ClientSession) -> None:
        self._url = settings.url.get_secret_value()
        self._session = session
        self._timeout = settings.timeout
        self.permissions_claim = settings.permissions_claim
        self._claims = JWTClaimsRegistry(
            leeway=settings.leeway,
            iss={"essential": True, "value": self._url},
            aud={"essential": True, "value": settings.audience or PROJECT["Name"]},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._keys = KeySet([])
        self._reading: asyncio.Task[None] | None = None
        self._begun = self._succeeded = -math.inf
        self.failed = False

    async def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token.

        Raises InvalidToken, or BackendUnavailable as long as no keys have ever been read.
        """
        if len(token) > MAX_TOKEN:
            raise InvalidToken("too large")
        try:
            signed = extract_compact(token.encode(), registry=REGISTRY)
            header = signed.headers()
            if header.get("typ", "jwt").lower() not in TOKEN_TYPES:
                raise InvalidToken("the header `typ` is not that of an access token")
            key = await self._key(header.get("kid"), header["alg"])
            if not validate_compact(signed, key, registry=REGISTRY):
                raise InvalidToken("the signature is wrong")
            claims: dict[str, Any] = json.loads(signed.payload)
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise InvalidToken(EXPIRED) from None
        except (JoseError, AttributeError, RecursionError, TypeError, ValueError) as error:
            raise InvalidToken(str(error)) from None
        return claims

    async def _key(self, key_id: str | None, algorithm: str) -> Key:
        """Return a key; raises InvalidKeyIdError, or BackendUnavailable without any keys."""
        if monotonic() - self._succeeded > MAX_AGE:
            self.read_keys()
        try:
            return self._keys.get_by_kid(key_id, {"alg": algorithm})
        except InvalidKeyIdError:
            await asyncio.wait([self.read_keys()], timeout=WAIT if self._keys else None)
        if not self._keys:
            raise BackendUnavailable("the keys of the issuer are unknown")
        return self._keys.get_by_kid(key_id, {"alg": algorithm})

    def read_keys(self) -> asyncio.Task[None]:
        """Begin to read the keys, unless that was done a moment ago, and return the reading."""
        pause = RETRY if self.failed else PAUSE
        done = self._reading is None or self._reading.done()
        if self._reading is None or (done and monotonic() - self._begun >= pause):
            self._begun = monotonic()
            self._reading = asyncio.create_task(self._read_keys())
        return self._reading

    async def _read_keys(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                described = await self._get(self._url.rstrip("/") + DISCOVERY)
                if described["issuer"] != self._url:
                    raise ValueError(f"AUTH_ISSUER must be {described['issuer']!r}")
                found = (await self._get(described["jwks_uri"]))["keys"]
            self._keys = KeySet(_usable(found))
        except Exception as error:  # whatever it is, the keys of before remain
            log.warning("issuer unavailable", reason=repr(error))
            self.failed = True
        else:
            self._succeeded = monotonic()
            self.failed = False

    async def _get(self, url: str) -> Any:
        async with self._session.get(url) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def close(self) -> None:
        """End the reading."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait([self._reading])


def _usable(keys: list[dict[str, Any]]) -> list[Key]:
    """Return the keys that can verify; raises ValueError without any."""
    usable = []
    for key in keys:
        with suppress(JoseError, LookupError, TypeError, ValueError):  # a kind of the future
            if key.get("kty") in KEY_TYPES and key.get("use", "sig") == "sig":
                usable.append(JWKRegistry.import_key(key))
    if not usable:
        raise ValueError("no keys that verify signatures")
    return usable


@asynccontextmanager
async def connect(settings: IssuerSettings) -> AsyncIterator[Issuer]:
    """Begin to read the keys. The service starts without them."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        issuer = Issuer(settings, session)
        issuer.read_keys()
        try:
            yield issuer
        finally:
            await issuer.close()


async def ping() -> None:
    """Read the keys, unless that was done a moment ago."""
    issuer = BACKEND.client()
    await asyncio.wait([issuer.read_keys()])
    if issuer.failed:
        raise BackendUnavailable("the keys of the issuer cannot be read")


BACKEND = Backend(
    name="issuer",
    settings=IssuerSettings,
    connect=connect,
    ping=ping,
    failures={},
    is_database=False,
)
