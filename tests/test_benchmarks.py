"""The benchmarks: what a run measures, computes and draws."""

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from harness import GIT, ROOT, run
from running import free_port

from benchmarks import __main__ as bench
from benchmarks import compare, load, plots

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


def test_a_full_run_has_what_the_ratios_and_the_plots_need(tmp_path: Path) -> None:
    """All contenders run, at all numbers of connections, and each plot can be drawn."""
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
    assert {path.name for path in tmp_path.iterdir()} == {
        "latency.svg",
        "reading.svg",
        "waiting.svg",
    }
    for path in tmp_path.iterdir():
        drawn = "".join(ElementTree.parse(path).getroot().itertext())  # noqa: S314 - our own
        assert plots.NAMES["service"] in drawn


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
