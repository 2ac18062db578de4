"""A generated service, with a constant besides its examples."""

from typing import Any

from orders import app
from quart import Quart


def create_app() -> Quart:
    """Return the service."""
    service: Quart = app.create_app()

    @service.get("/json")
    async def constant() -> dict[str, Any]:
        """Return a constant."""
        return {"hello": "world", "number": 42}

    return service
