"""Beanie on PyMongo's async client: https://beanie-odm.dev"""

from typing import Any

from beanie import Document, init_beanie
from beanie.odm.utils.init import Initializer
from pymongo.asynchronous.database import AsyncDatabase

from ..models import DOCUMENTS


class Everything(list[str]):
    """A list that contains whatever you ask for."""

    def __contains__(self, _: object) -> bool:
        return True


class Documents(Initializer):
    """Beanie's initialisation, in two steps.

    Beanie asks the server first, and a service has to start without it. So `await Documents(...)`
    asks nothing: from then on documents work, and their errors are those of the server.
    """

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        super().__init__(database=database, document_models=DOCUMENTS, skip_indexes=True)

    async def create_indexes(self) -> None:
        """Create what the documents need in the server: indexes, views, time series."""
        await init_beanie(database=self.database, document_models=DOCUMENTS, skip_indexes=True)
        for model in self.document_models:
            if issubclass(model, Document):
                await self.init_indexes(model)

    async def _load_cached_info(self) -> None:
        self._database_major_version = 99
        self._existing_collections = Everything()
