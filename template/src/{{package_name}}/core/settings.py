"""Settings come from environment variables. They are read and checked when the service starts."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from quart import current_app

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400)]


class EnvSettings(BaseSettings):
    """Base of all settings. Each field is the environment variable of its name."""

    model_config = SettingsConfigDict(env_ignore_empty=True, use_attribute_docstrings=True)


class ServiceSettings(EnvSettings):
    """The variables that every service has."""

    request_timeout: Seconds = 15.0
    """Seconds that a handler may take, the body of its request included. After that the client gets
    a 504."""

    stream_timeout: Seconds = 3600.0
    """Seconds that a streamed response or a WebSocket may stay open."""

    max_body_size: PositiveInt = 1024 * 1024
    """Bytes in the body of a request. A larger body gets a 413."""

    max_header_size: PositiveInt = 64 * 1024
    """Bytes in the headers of a request. Larger headers get a 431."""

    max_url_length: PositiveInt = 4096
    """Characters in the path and query of a request. A longer URL gets a 414."""

    trusted_hosts: str = ""
    """Host names that clients may use, separated by commas, such as "api.example.org". A leading
    dot includes all subdomains: ".example.org". By default every host name is accepted."""

    cors_origins: str = ""
    """Origins whose pages may call, separated by commas, such as "https://shop.example.org", or "*"
    for all. A page cannot read the response to a call with cookies."""

    api_docs: bool = True
    """Whether the service shows its API at /docs and /openapi.json."""

    readiness_timeout: Seconds = 1.0
    """Seconds that a backend may take to answer the readiness check."""

    readiness_requires: str = ""
    """Backends without which /health/ready answers 503, separated by commas, or "none". By default
    these are the databases."""

    blocking_threads: PositiveInt = 20
    """Calls that `blocking.run()` makes at the same time."""

    blocking_acquire_timeout: Seconds = 1.0
    """Seconds to wait for a free thread. After that the client gets a 503."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""

    log_format: Literal["json", "console"] = "json"
    """The log format: "json", or "console", coloured text for people."""

    @classmethod
    def current(cls) -> Self:
        """Return the settings of the current app, for use in a handler."""
        settings: Self = current_app.extensions["settings"]
        return settings


class InvalidSettings(SystemExit):
    """The environment is wrong. The start ends with one line per problem and exit code 1."""


def load(*kinds: type[BaseSettings]) -> list[Any]:
    """Read settings from the environment; returns one instance per class, in the same order.

    Raises InvalidSettings with the problems of all classes. Its lines name the variables and never
    show the values, which may be secret.
    """
    loaded: list[Any] = []
    problems: list[str] = []
    for kind in kinds:
        try:
            loaded.append(kind())
        except ValidationError as error:
            problems += _describe(kind, error)
    if problems:
        raise InvalidSettings("\n".join(problems))
    return loaded


def _describe(kind: type[BaseSettings], error: ValidationError) -> Iterator[str]:
    """Yield a line per problem: the variable, what is wrong and what would be right."""
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0])
        by_alias = {field.validation_alias: field for field in kind.model_fields.values()}
        field = by_alias.get(name) or kind.model_fields[name]
        variable = name if name in by_alias else f"{kind.model_config['env_prefix']}{name}".upper()
        if problem["type"] == "missing":
            example = f"; for example {field.examples[0]}" if field.examples else ""
            yield f"{variable}: is missing{example}"
        else:
            yield f"{variable}: {problem['msg'].removeprefix('Value error, ')}"
