"""What not to do: Quart with the clients that block, called in its event loop."""

from typing import Any

from quart import Quart

from . import blocking

app = Quart(__name__)


@app.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@app.get("/postgres")
async def row() -> dict[str, Any]:
    """Ask PostgreSQL."""
    return blocking.row()


@app.get("/mongo")
async def document() -> dict[str, Any]:
    """Ask MongoDB."""
    return blocking.document()


@app.get("/redis")
async def value() -> dict[str, Any]:
    """Ask Redis."""
    return blocking.value()


@app.get("/upstream")
async def answer() -> dict[str, Any]:
    """Ask the web service."""
    return blocking.answer()


@app.get("/all")
async def everything() -> list[Any]:
    """Ask one after the other."""
    return blocking.everything()
