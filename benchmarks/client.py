"""A load generator for machines without wrk, which prints what wrk prints."""

import asyncio
import sys
from time import perf_counter
from urllib.parse import urlsplit


async def visit(url: str, end: float, times: list[float], body: bytes) -> int:
    """Request a URL on one connection until the end; return how many answers were no 2xx.

    body: JSON to post.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}\r\n".encode() + body
    failed = 0
    while (began := perf_counter()) < end:
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in answer.lower().split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"content-length"]))
        times.append(perf_counter() - began)
        failed += not answer.startswith(b"HTTP/1.1 2")
    writer.close()
    return failed


async def main(url: str, connections: int, seconds: float, body: str) -> None:
    """Visit on all connections at once, and print what happened."""
    times: list[float] = []
    began = perf_counter()
    visits = (visit(url, began + seconds, times, body.encode()) for _ in range(connections))
    failed = sum(await asyncio.gather(*visits))
    times.sort()
    for percent in (50, 99):
        print(f"{percent}%  {times[int(len(times) * percent / 100)] * 1000:.2f}ms")
    print(f"{len(times)} requests in {perf_counter() - began:.2f}s, read")
    if failed:
        print(f"Non-2xx or 3xx responses: {failed}")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
