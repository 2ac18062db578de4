"""The clients without any server: the most that an endpoint over them could reach."""

import asyncio
import json
import os
import sys
from time import perf_counter, process_time

from .clients import Clients

WORKERS = 50


async def main(seconds: float) -> None:
    """Print questions per second, and per second of CPU, for each client."""
    clients = Clients()
    found = {}
    async with clients.opened():
        questions = {
            "postgres": clients.row,
            "mongo": clients.document,
            "redis": clients.value,
            "upstream": clients.answer,
        }
        for name, ask in questions.items():
            await ask()
            end, count, cpu = perf_counter() + seconds, 0, process_time()

            async def work() -> None:
                nonlocal count
                while perf_counter() < end:  # noqa: B023 - awaited before the next one
                    await ask()  # noqa: B023
                    count += 1

            await asyncio.gather(*(work() for _ in range(WORKERS)))
            found[name] = {"rate": count / seconds, "per_cpu": count / (process_time() - cpu)}
    print(json.dumps(found))


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    asyncio.run(main(float(sys.argv[1])))
