"""The benchmarks: what a run measures, computes and draws."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest
from harness import GIT, ROOT, open_folder, run
from running import free_port, wait_for

from benchmarks import __main__ as bench
from benchmarks import compare, equal, load, plots, rollout

MADE = {"copy": 1.0, "empty copy": 1.0, "update": 1.0}


SERVER = """
import asyncio, sys

async def serve(reader, writer):
    while head := (await reader.readuntil(b"\\r\\n\\r\\n")):
        fine = b"/missing" not in head
        if head.startswith(b"POST"):
            fine = await reader.readexactly(7) == b'{"a":1}' and b"application/json" in head
        status = b"200 OK" if fine else b"404 Not Found"
        writer.write(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 2\\r\\n\\r\\nok")

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def sample(per_second: float, p50: float = 0.01) -> load.Sample:
    """Return a run with as many requests a second as in a second of CPU."""
    return load.Sample(rate=per_second, per_cpu=per_second, p50=p50, p99=2 * p50, failed=0)


@pytest.mark.parametrize("with_wrk", [True, False])
def test_load_is_counted(with_wrk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load on a real server, by each of the two clients, gives figures."""
    if with_wrk and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    if not with_wrk:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://127.0.0.1:{port}/"
            load.wait(url)
            good = load.load(url, 2, 1, server.pid)
            posted = load.load(url, 2, 1, server.pid, '{"a":1}')
            missing = load.load(f"{url}missing", 2, 1, server.pid)
        finally:
            server.terminate()

    assert good.rate > 0
    assert good.per_cpu > 0
    assert 0 < good.p50 <= good.p99
    assert good.failed == 0
    assert posted.rate > 0
    assert posted.failed == 0
    assert missing.failed > 0


def test_a_full_run_has_what_the_ratios_and_the_plot_need(tmp_path: Path) -> None:
    """All contenders run, at all numbers of connections, and the plot can be drawn."""
    samples = {key: [sample(1000.0 + len(key[0]))] for key in bench.FULL}
    found = bench.ratios(samples, MADE)
    recorded = [
        {"contender": name, "endpoint": endpoint, "connections": connections}
        | {"runs": [run.as_json() for run in runs]}
        for (name, endpoint, connections), runs in samples.items()
    ]
    plots.write({"samples": recorded}, tmp_path)

    assert len(found) == 7
    assert {connections for _, _, connections in bench.FULL} == {1, 50, 500}
    assert {name for name, _, _ in bench.FULL} == set(bench.CONTENDERS) == set(plots.NAMES)
    plot = ElementTree.parse(tmp_path / "waiting.svg")  # noqa: S314 - our own
    assert plots.NAMES["service"] in "".join(plot.getroot().itertext())


def test_a_quick_run_has_what_its_ratios_need() -> None:
    """The plan of QUICK=1 leaves ratios out, and breaks none."""
    found = bench.ratios({key: [sample(1000)] for key in bench.QUICK}, MADE)

    assert set(found) < set(bench.ratios({key: [sample(1000)] for key in bench.FULL}, MADE))


def test_the_report_says_which_targets_hold() -> None:
    """A ratio holds from its target on."""
    slow = {key: [sample(1000 if key[0] == "service" else 1250)] for key in bench.FULL}
    found = bench.ratios(slow, MADE)

    assert found["a row, service to raw"] == {"ratio": 0.8, "target": 0.6, "holds": True}
    assert found["a row, service to fastapi"] == {"ratio": 0.8, "target": 1.0, "holds": False}
    assert "MISSED a row, service to fastapi: 0.8 (target 1.0)" in bench.report(found)


def test_the_comparison_shows_medians_and_their_spread() -> None:
    """Of the ratios of each round, so that what disturbs a round disturbs both sides of it."""
    rounds = [(sample(1000), sample(ratio * 1000, 0.02)) for ratio in (0.9, 1.1, 1.3)]

    shown = compare.line("a row", rounds)

    assert "1.10 (0.90 to 1.30)" in shown
    assert "1000 ->   1100/cpu-s" in shown
    assert "20.0 ->   40.0 ms" in shown


def test_the_comparison_takes_the_template_of_a_commit(tmp_path: Path) -> None:
    """Without a change of the working tree."""
    before = run(*GIT, "status", "--porcelain", cwd=ROOT)
    project = compare.generate_from("HEAD", tmp_path)

    assert (project / "src" / "orders" / "app.py").exists()
    assert run(*GIT, "status", "--porcelain", cwd=ROOT) == before


DUTIES = ("cache-control", "content-security-policy", "referrer-policy", "x-content-type-options")


@pytest.mark.slow
def test_fastapi_with_equal_duties_does_what_the_service_does() -> None:
    """The same answers, headers, refusals and lines in the log; or else equal work is not equal."""
    with ExitStack() as stack:
        plan = equal.contenders(stack.enter_context(open_folder()))
        project = plan[equal.OURS].folder
        urls = stack.enter_context(bench.databases(project, "DATABASE_URL", "REDIS_URL"))
        environment = os.environ | urls
        run(project / ".venv/bin/alembic", "upgrade", "head", cwd=project, env=urls)
        asked = {
            name: ask_all(stack.enter_context(plan[name].served(environment))[0])
            for name in (equal.OURS, "FastAPI, equal duties", "Quart alone, no log")
        }
        service, fastapi, quart = asked.values()
        wait_for(lambda: len(lines_of(project, "given-1")) == 2, 10)
        first, second = lines_of(project, "given-1")

    assert [status for status, _, _ in service] == [201, 200, 200, 200, 200, 404, 422, 400, 414]
    assert [status for status, _, _ in quart][:7] == [201, 200, 200, 200, 200, 404, 422]
    for (status, headers, body), (its_status, its_headers, its_body) in zip(
        service, fastapi, strict=True
    ):
        assert its_status == status
        for name in ("content-type", "x-request-id", *DUTIES):
            assert its_headers[name] == headers[name]
        assert body.keys() == its_body.keys()
    assert first.keys() == second.keys()
    assert first["status"] == second["status"] == 201


def ask_all(url: str) -> list[tuple[int, Message, dict[str, Any]]]:
    """Ask for everything that is measured, and for what is refused; return what came."""
    note = b'{"title": "A title", "body": "A body"}'
    questions: list[tuple[str, bytes | None, dict[str, str]]] = [
        ("/notes", note, {"X-Request-ID": "given-1"}),
        *((path, None, {}) for path in ("/notes/1", "/notes?limit=20", "/counters/a", "/json")),
        ("/notes/999999", None, {}),
        ("/notes", b'{"title": ""}', {}),
        ("/json", None, {"Host": "a b"}),
        (f"/json?{'x' * 5000}", None, {}),
    ]
    found = []
    for path, body, headers in questions:
        sent = {"X-Request-ID": "given", "Content-Type": "application/json", **headers}
        request = Request(url + path, data=body, headers=sent)  # noqa: S310 - our own servers
        try:
            with urlopen(request, timeout=10) as answer:  # noqa: S310
                found.append((answer.status, answer.headers, json.load(answer)))
        except HTTPError as error:
            text = error.read()
            is_json = "json" in error.headers["content-type"]
            found.append((error.code, error.headers, json.loads(text) if is_json else {}))
    return found


def lines_of(project: Path, request_id: str) -> list[dict[str, Any]]:
    """Return the lines of a request in the log."""
    lines = (project / "log").read_text().splitlines()
    return [json.loads(each) for each in lines if f'"{request_id}"' in each]


def measured(per_second: float, failed: int = 0) -> dict[str, Any]:
    """Return what a contender did in two rounds, twice as much in the second."""
    runs = [sample(per_second).as_json(), sample(2 * per_second).as_json() | {"failed": failed}]
    return {"idle_mib": 80, "samples": dict.fromkeys(compare.ENDPOINTS, runs)}


def test_the_table_has_ratios_with_their_spread() -> None:
    """Round by round; the service has its own figures."""
    faster = measured(1500) | {"idle_mib": 70}
    faster["samples"] = faster["samples"] | {"a row": measured(1500)["samples"]["a row"][::-1]}
    result = {
        "contenders": {equal.OURS: measured(1000), "other": faster, "lost": measured(10, failed=9)},
        "date": "2026-11-27",
        "machine": "2 cores",
        "rounds": 2,
        "versions": {"quart": "0.22"},
    }

    head, _, ours, other, lost, _, said = equal.table(result)

    assert head.startswith("|  | a row | a create |")
    assert ours.startswith("| **the service** | 1 = 1,500/s |")
    assert other.startswith("| other | 1.88 (0.75 to 3.00) | 1.50 (1.50 to 1.50) |")
    assert other.endswith("| 2.0 | 70 |")
    assert lost.endswith("| 2.0, 9 failed | 80 |")
    assert "2 cores, quart 0.22; 2 rounds" in said


def test_the_page_has_the_table_of_the_last_run() -> None:
    """`make bench` writes both."""
    page = equal.PAGE.read_text()

    assert page == equal.with_table(page, json.loads(equal.RESULTS.read_text())), "make bench"


def test_a_lost_request_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is no success, and a server that is gone."""
    monkeypatch.setattr(rollout, "PATHS", ("/", "/missing"))
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stderr=subprocess.DEVNULL
    ) as server:
        load.wait(f"http://127.0.0.1:{port}/")
        client = rollout.Client(port, 0)
        client.start()
        try:
            wait_for(lambda: 1 < client.lost.count("404") < len(client.seconds) - 1, 10)
            server.kill()
            wait_for(lambda: {*client.lost} - {"404"}, 10)
        finally:
            client.stopped = True
            server.kill()
            client.join()

    assert len(client.seconds) > len(client.lost)
