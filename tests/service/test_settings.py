"""What the environment may say, and what the start says when it is wrong."""

from collections.abc import Callable

import pytest
from orders.core.settings import InvalidSettings
from orders.settings import Settings
from quart import Quart
from quart.typing import TestClientProtocol as Client


async def test_a_handler_reads_the_settings_of_its_app(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT", "2.5")
    app = create_app()
    monkeypatch.setenv("REQUEST_TIMEOUT", "3")

    async with app.app_context():
        assert Settings.current().request_timeout == 2.5


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT", "")

    assert Settings().request_timeout == Settings.model_fields["request_timeout"].default


WRONG = {
    "REQUEST_TIMEOUT": ["-1", "0", "nan", "inf", "1e9", "soon"],
    "MAX_BODY_SIZE": ["0", "1.5", "1MB"],
    "LOG_LEVEL": ["loud", "info "],
    "API_DOCS": ["perhaps"],
    "READINESS_REQUIRES": ["mysql", "none,mysql"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_named_in_one_line(
    variable: str, value: str, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    (line,) = str(stopped.value).splitlines()
    assert line.startswith(f"{variable}: ")


def test_all_problems_are_named_at_once(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT", "-1")
    monkeypatch.setenv("LOG_LEVEL", "loud")

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    lines = str(stopped.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("REQUEST_TIMEOUT: ")
    assert lines[1].startswith("LOG_LEVEL: ")


async def test_without_the_documentation_its_pages_are_not_there(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_DOCS", "false")
    app = create_app()

    async with app.test_app():
        client: Client = app.test_client()
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/openapi.json")).status_code == 404
        assert (await client.get("/health/live")).status_code == 200
