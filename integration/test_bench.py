"""The benchmarks still run: the quick form of the parts that need nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.throughput import ratios

from .support.find import need_redis, need_uwsgi
from .support.processes import clean_environment
from .support.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("reads", "throughput", "following", "propagation", "refresh")


def _bench(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_quick_benchmarks_run_whole_and_tell_every_target(tmp_path: Path) -> None:
    need_uwsgi()
    need_redis()
    folder = tmp_path / "bench"
    said = _bench("--quick", "--no-peers", "--out", str(folder), *PARTS)
    results = json.loads((folder / "results.json").read_text("utf-8"))
    assert {row["who"] for row in results["rows"]} >= {"flask", "waffle-file", "waffle-redis"}
    page = (tmp_path / "bench.md").read_text("utf-8")
    stale = [row["median"] for row in results["rows"] if row["measure"] == "stale reads"]
    back = [row["median"] for row in results["rows"] if row["measure"] == "steps back"]
    # Timing differs from machine to machine; a stale read is wrong on every one.
    assert stale == back == [0, 0], said
    for text in (said, page):
        for word in ("Throughput of waffle-file", "Stale reads of waffle-redis", "not measured"):
            assert word in text


@pytest.mark.timeout(120)
def test_part_that_is_measured_again_replaces_its_figures_and_no_others(tmp_path: Path) -> None:
    need_uwsgi()
    need_redis()
    folder = tmp_path / "bench"
    folder.mkdir()
    kept = {"measure": "memory", "who": "flask", "at": None, "unit": "MiB", "n": 1, "median": 7.0}
    old = {**kept, "measure": "refresh one", "who": "waffle", "at": 10, "unit": "ms"}
    about = {"date": "2026-01-01", "environments": {}}
    before = {"about": about, "rows": [kept, old]}
    (folder / "results.json").write_text(json.dumps(before), encoding="utf-8")
    _bench("--quick", "--no-peers", "--again", "--out", str(folder), "refresh")
    after = json.loads((folder / "results.json").read_text("utf-8"))
    assert kept in after["rows"]
    assert old not in after["rows"]
    assert after["about"]["date"] == "2026-01-01"
    assert "measured again: refresh" in after["about"]


@pytest.mark.timeout(120)
def test_benchmark_that_is_ended_by_sigterm_leaves_no_server(tmp_path: Path) -> None:
    need_uwsgi()
    need_redis()
    log = tmp_path / "log"
    with log.open("wb") as output:
        bench = subprocess.Popen(
            [sys.executable, "-m", "bench", "--quick", "--no-peers", "throughput"],
            cwd=ROOT,
            env=clean_environment(PYTHONPATH=str(ROOT)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def servers() -> list[psutil.Process]:
        return psutil.Process(bench.pid).children(recursive=True)

    eventually("uWSGI and Redis", lambda: len(servers()) > 3)
    started = servers()
    bench.terminate()
    assert bench.wait(60) != 0, log.read_text()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, log.read_text()
    assert len(gone) > 3


def test_the_same_figures_draw_the_same_plots(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        # Not missing(): only `make bench` installs it.
        pytest.skip("matplotlib is not installed (extra: bench)")
    row = {"who": "waffle-file", "at": None, "unit": "ms", "n": 3, "median": 2.0}
    spread = {"p5": 1.0, "p50": 2.0, "p95": 3.0, "p99": 3.0, "min": 1.0, "max": 3.0}
    rows = [{**row, **spread, "measure": "served by all"}]
    grows = [{**row, **spread, "measure": "refresh one", "at": size} for size in (10, 1000)]
    about: dict[str, dict[str, str]] = {"environments": {}}
    drawn = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        results = {"about": about, "rows": rows + grows}
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        _bench("--draw", str(folder))
        drawn.append({path.name: path.read_bytes() for path in folder.glob("*.svg")})
    assert drawn[0] == drawn[1]
    assert drawn[0].keys() == {"served.svg", "refresh.svg"}


def test_throughput_is_compared_in_those_rounds_in_which_both_were_measured() -> None:
    base = {(0, 0): 2.0, (0, 1): 4.0, (1, 0): 8.0}
    assert ratios({(0, 0): 1.0, (1, 0): 2.0}, base) == [0.5, 0.25]
    assert ratios(base, {(0, 1): 2.0}) == [2.0]
