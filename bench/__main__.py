"""Run the benchmarks: ``python -m bench [--quick] [--no-peers] [--out FOLDER] [names…]``."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib.util
import json
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import (
    barrier,
    connections,
    following,
    footprint,
    hosts,
    machine,
    propagation,
    reads,
    refresh,
    report,
    scale,
    sustained,
    throughput,
    turns,
    wake,
    watchers,
)
from .contenders import ROOT
from .record import Record
from .targets import targets

RUNS = {
    "reads": reads.run,
    "throughput": throughput.run,
    "turns": turns.run,
    "following": following.run,
    "sustained": sustained.run,
    "propagation": propagation.run,
    "refresh": refresh.run,
    "wake": wake.run,
    "footprint": footprint.run,
    "watchers": watchers.run,
    "hosts": hosts.run,
    "connections": connections.run,
    "barrier": barrier.run,
    "scale": scale.run,
}


def main() -> None:
    """Run the named benchmarks, or all; missed targets are told, and are no failure."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(RUNS))
    parser.add_argument("--quick", action="store_true", help="small rounds, as a smoke test")
    parser.add_argument("--no-peers", action="store_true", help="only this project and the floors")
    parser.add_argument("--out", type=Path, help="write FOLDER/results.json, FOLDER.md and plots")
    parser.add_argument(
        "--again", action="store_true", help="keep what FOLDER/results.json has of other parts"
    )
    parser.add_argument("--draw", type=Path, help="only write FOLDER.md and plots of such a file")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in RUNS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(RUNS)}")
    if chosen.again and not chosen.out:
        parser.error("--again needs --out, the folder of the results that are kept")
    if chosen.draw:
        _write(json.loads((chosen.draw / "results.json").read_text("utf-8")), chosen.draw)
        return
    # SIGTERM, too, ends the servers that were started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(parser, chosen)
    finally:
        # One that was just being started when the signal came is in nobody's hands.
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _run(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    # As pip does when it installs the package, and the peers: a worker that has to compile its
    # sources keeps the memory of that, half a MiB, though nobody's worker does.
    for folder in ("uwsgi_waffle", "bench"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    record = Record(quick=chosen.quick, peers=not chosen.no_peers)
    about = machine.describe(peers=record.peers)
    print(f"Python {about['python']}, {about['system']}, {about['machine']}")
    began = time.monotonic()
    broken = [name for name in chosen.names or RUNS if not _completed(name, record)]
    about["seconds"] = round(time.monotonic() - began)
    about["quick"] = record.quick
    print("\nTargets")
    for target in targets(record.rows):
        figure = "" if target.figure is None else f"{target.figure:.3f}"
        print(f"  {target.name:<78} {target.wanted:<16} {figure:>8}  {target.verdict}")
    if chosen.out:
        results = {"about": about, "rows": record.rows}
        if chosen.again:
            earlier = json.loads((chosen.out / "results.json").read_text("utf-8"))
            results = _merged(earlier, results, " ".join(chosen.names))
        _write(results, chosen.out)
    if broken:
        parser.exit(1, f"broken: {', '.join(broken)}\n")


def _completed(name: str, record: Record) -> bool:
    """Run one benchmark; what breaks it must not cost the figures of the others."""
    try:
        RUNS[name](record)
    except pytest.skip.Exception as exc:
        print(f"  left out: {exc}")
    except (Exception, pytest.fail.Exception):
        traceback.print_exc()
        return False
    return True


def _merged(earlier: dict[str, Any], later: dict[str, Any], names: str) -> dict[str, Any]:
    """Return results with what a later run has measured again, and a word about that."""
    measures = {row["measure"] for row in later["rows"]}
    kept = [row for row in earlier["rows"] if row["measure"] not in measures]
    again = ", ".join(str(later["about"][name]) for name in ("date", "commit", "machine"))
    about = {**earlier["about"], f"measured again: {names}": again}
    return {"about": about, "rows": kept + later["rows"]}


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    drawn: list[str] = []
    if importlib.util.find_spec("matplotlib") is None:
        print("left out: the plots, because matplotlib is not installed (extra: bench)")
    else:
        from . import plots

        drawn = plots.draw(results["rows"], folder)
    folder.with_suffix(".md").write_text(report.text(results, folder.name, drawn), encoding="utf-8")
    print(f"written: {folder.with_suffix('.md')}, {folder / 'results.json'}, {len(drawn)} plots")


if __name__ == "__main__":
    main()
