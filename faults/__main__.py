"""Run the faults: ``python -m faults [--seed N] [--rounds K] [--only NAME] [--store KIND]``."""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from . import kinds as kinds
from .bounds import table
from .check import Log, check
from .injection import INJECTIONS
from .record import Run, read_record
from .report import describe
from .schedule import Turn, make_schedule, play
from .world import World

#: "notify" is PostgreSQL, whose own notices connect the hosts: only what harms these
STORES = ("sqlite", "postgres", "notify")


def main() -> int:
    """Run what the command line asks for; return 0 if every promise held, else 1."""
    options = _parser().parse_args()
    if options.list:
        for injection in INJECTIONS.values():
            print(f"{injection.name:27}{(injection.run.__doc__ or '').splitlines()[0]}")
        return 0
    if options.check:
        return _verdict(options.check)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    stores = [options.store] if options.store else list(STORES)[: 1 if options.short else None]
    print(table())
    status = 0
    for store in stores:
        turns = make_schedule(
            seed, store=store, rounds=options.rounds, only=options.only, short=options.short
        )
        again = f"python -m faults --seed {seed} --store {store} --rounds {options.rounds}"
        again += " --short" * options.short + "".join(f" --only {name}" for name in options.only)
        folder = Path(tempfile.mkdtemp(prefix=f"waffle-faults-{store}-"))
        print(
            f"\n{store}: {len(turns)} faults, in {folder}; the same again:\n  {again}", flush=True
        )
        began = time.monotonic()
        try:
            failed = _run(folder, seed, store, turns)
        except (pytest.skip.Exception, pytest.fail.Exception) as exc:
            # As the integration tests look for servers.
            sys.exit(str(exc))
        print(f"{store} took {time.monotonic() - began:.0f} s", flush=True)
        if failed or options.keep:
            print(f"record and logs: {folder}; checked again by --check {folder}/record.jsonl")
        else:
            shutil.rmtree(folder)
        status |= failed
    return status


def _run(folder: Path, seed: int, store: str, turns: list[Turn]) -> int:
    world = World(folder, store)
    world.recorder.add(Run(seed, store, sys.argv[1:]))
    # Also when the run is interrupted: SIGTERM ends it as SIGINT does.
    with contextlib.ExitStack() as stack:
        stack.callback(world.close)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        world.start()
        for number, fault in enumerate(play(world, turns), 1):
            shown = f"skipped: {fault.skipped}" if fault.skipped else ""
            print(f"  {number:2} {fault.name} {shown}", flush=True)
            if world.load.crashed:
                raise RuntimeError("the load ended") from world.load.crashed[0]
        world.load.stop()
        try:
            for row in world.database.committed():
                world.recorder.add(row)
        except Exception as exc:
            world.problem(f"the store can't be read at the end: {exc!r}")
    return _verdict(world.recorder.path)


def _verdict(path: Path) -> int:
    entries = read_record(path)
    violations = check(entries)
    print(describe(Log(entries), violations), flush=True)
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="decides order and victims; else a random one")
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault comes")
    parser.add_argument(
        "--only", action="append", default=[], choices=INJECTIONS, metavar="NAME", help="a fault"
    )
    parser.add_argument("--store", choices=STORES, help="else one run with each")
    parser.add_argument("--short", action="store_true", help="a few quick faults, one store")
    parser.add_argument("--keep", action="store_true", help="keep record and logs of a good run")
    parser.add_argument("--list", action="store_true", help="name all faults")
    parser.add_argument("--check", type=Path, metavar="RECORD", help="check a record again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
