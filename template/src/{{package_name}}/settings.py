"""What the service reads from its environment, and how it says what is wrong there.

Settings that belong to a backend stand in its module, below `backends`.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400)]
"""A length of time."""

SecretUrl: TypeAlias = SecretStr
"""A URL that may hold a password: it shows itself as asterisks in logs and errors."""


class Settings(BaseSettings):
    """What does not belong to a backend. Each field is the environment variable of its name."""

    model_config = SettingsConfigDict(env_ignore_empty=True, use_attribute_docstrings=True)

    request_timeout: Seconds = 15.0
    """Seconds that a handler may take; then the client gets a 504."""

    readiness_timeout: Seconds = 1.0
    """Seconds that a backend may take to answer the readiness check."""

    max_body_size: PositiveInt = 1024 * 1024
    """Bytes that the body of a request may have; then the client gets a 413."""

    max_url_length: PositiveInt = 4096
    """Characters that path and query of a request may have; then the client gets a 414."""

    trusted_hosts: str = ""
    """Hosts that requests may be addressed to, separated by commas, with a leading dot for all
    below one, such as ".example.org"; without any, all hosts are served."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe messages that are logged."""

    log_format: Literal["json", "console"] = "json"
    """One JSON object per line for machines, or coloured text for people."""


class InvalidSettings(SystemExit):
    """The environment is wrong: the start ends with one line per problem and exit code 1."""


def load(kinds: Iterable[type[BaseSettings]]) -> dict[type[BaseSettings], Any]:
    """Read each kind of settings from the environment, and return the instances by kind.

    Raises InvalidSettings with all problems of all kinds. Its lines name variables, and never
    hold the values, which may be secret.
    """
    loaded: dict[type[BaseSettings], Any] = {}
    problems: list[str] = []
    for kind in kinds:
        try:
            loaded[kind] = kind()
        except ValidationError as error:
            problems += _describe(kind, error)
    if problems:
        raise InvalidSettings("\n".join(problems))
    return loaded


def url_schemes(*schemes: str) -> AfterValidator:
    """Return a validator for a SecretUrl that has one of the schemes, and a host."""

    def check(url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in schemes or not parts.netloc:
            raise ValueError(f"is not a URL that begins with {schemes[0]}://")
        return url

    return AfterValidator(check)


def milliseconds(seconds: float) -> int:
    """Convert seconds, as all settings have them, for a library that counts in milliseconds."""
    return round(seconds * 1000)


def _describe(kind: type[BaseSettings], error: ValidationError) -> Iterator[str]:
    """Yield a line per problem that names the variable, what is wrong and what would be right."""
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0])
        by_alias = {field.validation_alias: field for field in kind.model_fields.values()}
        field = by_alias.get(name) or kind.model_fields[name]
        variable = name if name in by_alias else f"{kind.model_config['env_prefix']}{name}".upper()
        message = "is missing" if problem["type"] == "missing" else problem["msg"]
        example = f"; for example {field.examples[0]}" if field.examples else ""
        yield f"{variable}: {message.removeprefix('Value error, ')}{example}"
