"""FastAPI with the same clients, tuned alike."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from .clients import Clients

clients = Clients()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Open the clients."""
    async with clients.opened():
        gc.collect()
        gc.freeze()
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/json", response_class=JSONResponse)
async def constant() -> JSONResponse:
    """Return a constant."""
    return JSONResponse({"hello": "world", "number": 42})


@app.get("/postgres", response_class=JSONResponse)
async def row() -> JSONResponse:
    """Ask PostgreSQL."""
    return JSONResponse(await clients.row())


@app.get("/mongo", response_class=JSONResponse)
async def document() -> JSONResponse:
    """Ask MongoDB."""
    return JSONResponse(await clients.document())


@app.get("/redis", response_class=JSONResponse)
async def value() -> JSONResponse:
    """Ask Redis."""
    return JSONResponse(await clients.value())


@app.get("/upstream", response_class=JSONResponse)
async def answer() -> JSONResponse:
    """Ask the web service."""
    return JSONResponse(await clients.answer())


@app.get("/all", response_class=JSONResponse)
async def everything() -> JSONResponse:
    """Ask all of them at once."""
    answers: list[Any] = await clients.everything()
    return JSONResponse(answers)
