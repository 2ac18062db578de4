"""What the fuzz test of a service finds in a handler that is wrong."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
import test_fuzz
from pydantic import BaseModel, Field
from quart import Quart
from quart.views import MethodView
from quart_schema import validate_querystring, validate_request


class Count(BaseModel):
    count: int


class Size(BaseModel):
    size: int = Field(10, alias="pageSize")


class Struct(msgspec.Struct):
    count: int


class Tagged(BaseModel):
    owner: UUID = Field(examples=["12345678-1234-5678-1234-567812345678"])
    title: str
    note: str | None = None
    tags: list[str] = []


def without_nul(text: str) -> str:
    return str(1 / ("\0" not in text))


@validate_request(Count)
async def divide(data: Count) -> str:
    return str(1 / data.count)


@validate_request(Struct)
async def divide_struct(data: Struct) -> str:
    return str(1 / data.count)


@validate_querystring(Size)
async def divide_query(query_args: Size) -> str:
    return str(1 / query_args.size)


@validate_request(Count)
async def divide_of(owner: UUID, data: Count) -> str:
    return str(1 / data.count)


@validate_request(Tagged)
async def store_title(data: Tagged) -> str:
    return without_nul(data.title)


@validate_request(Tagged)
async def store_tags(data: Tagged) -> str:
    return without_nul("".join(data.tags))


@validate_request(Tagged)
async def encode(data: Tagged) -> str:
    return data.title.encode("ascii").decode()


async def look_up(name: str) -> str:
    return without_nul(name)


class View(MethodView):
    @validate_request(Count)
    async def put(self, data: Count) -> str:
        return str(1 / data.count)


@pytest.mark.parametrize(
    ("rule", "handler"),
    [
        ("/wrong", divide),
        ("/wrong", divide_struct),
        ("/wrong", divide_query),
        ("/wrong/<uuid:owner>", divide_of),
        ("/wrong", store_title),
        ("/wrong", store_tags),
        ("/wrong", encode),
        ("/wrong/<name>", look_up),
        ("/wrong", View.as_view("view")),
    ],
)
async def test_a_wrong_handler_is_found(
    app: Quart, rule: str, handler: Callable[..., Awaitable[Any]]
) -> None:
    methods = None if hasattr(handler, "view_class") else ["GET", "POST"]
    app.add_url_rule(rule, view_func=handler, methods=methods)

    with pytest.raises(AssertionError, match=r"/wrong.* gets a 500"):
        await test_fuzz.test_no_request_gets_a_5xx(app)


async def test_nothing_is_found_in_a_right_one(app: Quart) -> None:
    @app.put("/right/<uuid:owner>")
    @validate_request(Tagged)
    async def right(owner: UUID, data: Tagged) -> str:
        return data.title

    @app.route("/right", methods=["QUERY"])
    async def query() -> str:
        return "right"

    asked = [path for _, path, _ in test_fuzz.requests(app) if path.startswith("/right")]

    assert len(asked) > 100
    await test_fuzz.test_no_request_gets_a_5xx(app)
