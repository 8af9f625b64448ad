"""How soon all workers serve a change, from the call on, and what a client sees until then."""

from __future__ import annotations

import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flask import Flask

from uwsgi_waffle import WaffleConf

from .contenders import Contender, contenders
from .record import Record
from .servers import Site, ask, redis_server, site

WORKERS = 4
RUNS = 5
#: Of a client that asks without a pause, for the workers have changes to make, too.
ASK_PAUSE_S = 0.0005


class Answer(NamedTuple):
    """An answer, with the instants between which it was given."""

    begin_ns: int
    end_ns: int
    number: int


def run(record: Record) -> None:
    """Change a setting through one worker while a client asks all of them in turn."""
    print(f"\nA change made through one of {WORKERS} workers, as the others' requests see it")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        _measure_call(record, Path(name))
        chosen = [
            one
            for one in contenders(peers=record.peers)
            if one.live and not (record.quick and _is_slow(one))
        ]
        found = {one.name: _Found() for one in chosen}
        # In turns, so that what else the machine does meets all of them.
        for turn in range(record.rounds(RUNS, 1)):
            for contender in chosen:
                folder = Path(name) / f"{contender.name}-{turn}"
                with site(contender, folder, workers=WORKERS, redis_port=port) as running:
                    _measure(record, contender, running, found[contender.name])
        for who, one in found.items():
            one.keep(record, who)


def _measure_call(record: Record, folder: Path) -> None:
    """Measure ``update()`` and a bare commit of one row in turns, in one process, as durable."""
    app = Flask("bench", instance_path=str(folder))
    app.config.update(
        WAFFLE_CONFS={"NUMBER": {"desc": "counts the rounds", "default": 0}}, WAFFLE_MULTIPROC=True
    )
    waffle = WaffleConf(app)
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, raw TEXT)")
    connection.execute("INSERT INTO settings VALUES ('NUMBER', '0')")
    committed_ns: list[float] = []
    updated_ns: list[float] = []
    with app.app_context():
        for number in range(1, record.rounds(300, 10) + 1):
            began = time.monotonic_ns()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE settings SET raw = ?", (str(number),))
            connection.execute("COMMIT")
            committed_ns.append(time.monotonic_ns() - began)
            began = time.monotonic_ns()
            waffle.update({"NUMBER": number})
            updated_ns.append(time.monotonic_ns() - began)
    connection.close()
    waffle.stop()
    waffle.state.store.close()
    record.samples("change in turns", "floor SQLite commit", committed_ns, unit="ms")
    record.samples("change in turns", "waffle-file", updated_ns, unit="ms")


class _Found:
    """What was measured of one contender, in all runs."""

    def __init__(self) -> None:
        self.changes = self.changes_back = self.reads = self.stale = 0
        self.call_ns: list[float] = []
        #: a list for each run
        self.served_ns: list[list[float]] = []

    def keep(self, record: Record, who: str) -> None:
        """Put the figures into the record."""
        stale = 100 * self.stale / max(self.reads, 1)
        back = 100 * self.changes_back / self.changes
        record.value("stale reads", who, stale, unit="% of reads", at=self.reads)
        record.value("steps back", who, back, unit="% of changes", at=self.changes)
        record.samples("call", who, self.call_ns, unit="ms")
        served_ns = [time_ns for run in self.served_ns for time_ns in run]
        record.samples("served by all", who, served_ns, unit="ms")
        medians = [statistics.median(run) for run in self.served_ns]
        record.samples("served by all, median of each run", who, medians, unit="ms")


def _is_slow(contender: Contender) -> bool:
    """Return whether it polls slowly, or keeps a value for a minute: it is given few rounds."""
    return contender.follows_s > 5


def _measure(record: Record, contender: Contender, running: Site, found: _Found) -> None:
    slow = _is_slow(contender)
    rounds = record.rounds(1 if slow else 60, 1 if slow else 10)
    order = random.Random(len(found.served_ns))
    served_ns: list[float] = []
    found.served_ns.append(served_ns)
    for number in range(1, rounds + 1):
        if slow:
            # So that a change falls into any phase of what polls, or of what is kept.
            time.sleep(order.uniform(0, contender.follows_s / 2))
        answers = _follow(contender, running, number, order)
        found.call_ns.append(answers.returned_ns - answers.called_ns)
        served_ns.append(answers.served_ns - answers.called_ns)
        after = [one for one in answers.all if one.begin_ns >= answers.returned_ns]
        found.changes += 1
        found.reads += len(after)
        found.stale += sum(one.number != number for one in after)
        found.changes_back += steps_back(answers.all) > 0


class _Change(NamedTuple):
    """One change, and what a client that asks the workers in turn saw of it."""

    called_ns: int
    returned_ns: int
    served_ns: int
    all: list[Answer]


def _follow(contender: Contender, running: Site, number: int, order: random.Random) -> _Change:
    """Make one change; ask the workers in turn until each has answered with it."""
    writer = order.choice(running.ports)
    returned_ns: list[int] = []
    called_ns: list[int] = []

    def change() -> None:
        called_ns.append(ask(writer, number))
        returned_ns.append(time.monotonic_ns())

    thread = threading.Thread(target=change)
    # The writer itself is busy with its change, and would hold the client up.
    others = [port for port in running.ports if port != writer]
    answers: list[Answer] = []
    served_ns: dict[int, int] = {}
    began = time.monotonic_ns()
    thread.start()
    while True:
        ports = others if thread.is_alive() else running.ports
        for port in ports:
            begin_ns = time.monotonic_ns()
            answer = Answer(begin_ns, 0, ask(port))._replace(end_ns=time.monotonic_ns())
            answers.append(answer)
            if answer.number == number:
                served_ns.setdefault(port, answer.end_ns)
        if len(served_ns) == len(running.ports) and not thread.is_alive():
            break
        elapsed_s = (time.monotonic_ns() - began) / 1e9
        if elapsed_s > contender.follows_s:
            raise RuntimeError(f"{contender.name}: not followed within {elapsed_s:.0f} s")
        # Fine enough to tell, and rare enough not to be what is measured.
        time.sleep(min(0.2, max(ASK_PAUSE_S, elapsed_s / 50)))
    thread.join()
    # The writer serves it from its answer on at the latest.
    served_ns[writer] = min(served_ns[writer], returned_ns[0])
    return _Change(called_ns[0], returned_ns[0], max(served_ns.values()), answers)


def steps_back(answers: Sequence[Answer]) -> int:
    """Return how many answers are older than one that had come before they were asked for."""
    count = highest = 0
    for answer in answers:
        count += answer.number < highest
        highest = max(highest, answer.number)
    return count
