"""Sustained load: many clients in loops, on less than they need."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter


async def served_under_load(
    use: Callable[[], Awaitable[object]], clients: int = 12, seconds: float = 0.5
) -> list[int]:
    """Have clients use something again and again. Returns how often each of them was served.

    A single burst proves little: an unfair queue serves it in order, too. Under sustained load, a
    client that has just been served competes with those that wait.
    """
    served = [0] * clients
    end = perf_counter() + seconds

    async def loop(number: int) -> None:
        while perf_counter() < end:
            await use()
            served[number] += 1

    await asyncio.gather(*(loop(number) for number in range(clients)))
    return served


def assert_fair(served: list[int]) -> None:
    """Assert that all clients were served about equally often, and often enough to tell."""
    assert max(served) > 5, served
    assert min(served) > 0.7 * max(served), served
