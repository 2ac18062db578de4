"""The parts of the drill, one after the other.

It runs on the Python of the generated service, in its folder, and writes `drill.json` into the
folder that is its argument.
"""

import asyncio
import gc
import json
import os
import platform
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

from . import servers
from .crowds import FILES, SMALL_POOL, Crowds
from .endings import Endings
from .faults import Faults
from .jobs import Jobs
from .servers import REFUSALS, Upstream


class Drill(Faults, Crowds, Endings, Jobs):
    """All parts."""

    async def run(self) -> None:
        """Go through all parts."""
        async with self._service("faults") as running:
            await self._nothing_wrong(running)
            for backend in self._backends.values():
                await self._killed(running, backend)
            for backend in self._backends.values():
                await self._frozen(running, backend)
            for refusal in REFUSALS:
                await self._refusing(running, refusal)
        changed = {"UPSTREAM_URL": self._upstream.url, "POSTGRES_POOL_SIZE": str(SMALL_POOL)}
        async with self._service("crowd", changed) as running:
            await self._upstream_in_all_moods(running)
            await self._crowd(running)
            await self._pool_exhausted(running)
            await self._hang_up(running)
            await self._terminated(running)
        async with self._service("files", open_files=FILES) as running:
            await self._few_files(running)
        await self._log_unread()
        await self._streams_told()
        await self._frozen_end()
        await self._frozen_end_under_load()
        await self._started_without_backends()
        await self._jobs()

    async def run_jobs(self) -> None:
        """Go through the part about jobs."""
        await self._jobs()


async def main(folder: Path, only: str = "") -> None:
    """Run the drill, and write what was seen. only: "jobs" for this part alone."""
    began = perf_counter()
    # The one who measures must not pause, and leaves little garbage behind.
    gc.disable()
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(servers.backends(folder / "servers"))
        upstream = await stack.enter_async_context(Upstream().running())
        drill = Drill(backends, upstream, folder)
        await (drill.run_jobs() if only == "jobs" else drill.run())
    result = {
        "seconds": round(perf_counter() - began, 1),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "phases": [phase.as_json() for phase in drill.phases],
    }
    (folder / "drill.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
