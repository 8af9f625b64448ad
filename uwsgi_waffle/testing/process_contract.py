"""The part of the stores' contract that is about many processes and threads at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any
from unittest import mock

from .. import forking
from ..errors import RevisionConflict
from ..stores.base import Store
from .assertions import read_after, stored
from .forked import LIMIT_S, children, in_processes, results


class ProcessContract:
    """The contract of a store that many processes and threads use at once."""

    #: how many changes each of many concurrent writers makes
    changes_per_writer = 5

    def test_prepare_is_safe_in_sixteen_processes_at_once(self, store: Store) -> None:
        def prepare(number: int) -> str:
            store.prepare()
            return store.read_since(0, "").epoch

        epochs = in_processes(16, prepare)
        assert len(set(epochs)) == 1
        assert store.read_since(0, "")[:2] == (0, epochs[0])

    def test_change_of_another_process_is_read_at_once(self, store: Store) -> None:
        store.prepare()
        delta = store.read_since(0, "")
        for number in range(1, 11):
            assert in_processes(1, lambda _: store.write({"A": str(number)})) == [number]  # noqa: B023
            delta = read_after(store, delta)
            assert (delta.revision, delta.rows) == (number, (("A", str(number)),))

    def test_two_concurrent_writers_lose_nothing(self, store: Store) -> None:
        self._check_writers(store, writers=2, changes=25)

    def test_sixteen_concurrent_writers_lose_nothing(self, store: Store) -> None:
        self._check_writers(store, writers=16, changes=self.changes_per_writer)

    def test_only_one_of_eight_writers_gets_the_expected_revision(self, store: Store) -> None:
        store.prepare()
        base = store.write({"A": "0"})

        def write(number: int) -> str:
            try:
                store.write({"A": str(number)}, author=str(number), expected_revision=base)
            except RevisionConflict:
                return "conflict"
            return str(number)

        results = in_processes(8, write)
        (winner,) = set(results) - {"conflict"}
        assert results.count("conflict") == 7
        assert stored(store) == {"A": winner}
        assert store.history()[0].author == winner
        assert store.read_since(0, "").revision == base + 1

    def test_reader_never_sees_half_a_change(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0", "B": "0"})

        def run(number: int) -> int:
            if number == 0:
                for value in range(1, 41):
                    store.write({"A": str(value), "B": str(value)})
                return 0
            delta = store.read_since(0, "")
            known = dict(delta.rows)
            deadline = time.monotonic() + LIMIT_S / 2
            while known["A"] != "40":
                assert time.monotonic() < deadline, known
                before, delta = delta, read_after(store, delta)
                assert delta.revision >= before.revision
                assert not delta.complete
                known.update(delta.rows)
                assert known["A"] == known["B"] == str(delta.revision - 1)
                if delta.revision == before.revision:
                    # The writer needs the processor, too: readers that spin would keep it off.
                    time.sleep(0.001)
                else:
                    deadline = time.monotonic() + LIMIT_S / 2
            return 1

        assert in_processes(3, run) == [0, 1, 1]

    def test_killed_writer_leaves_whole_changes(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0", "B": "0"})

        def write_until_killed(number: int) -> None:
            for value in range(1_000_000):
                store.write({"A": str(value), "B": str(value)})

        for _ in range(3):
            before = store.read_since(0, "").revision
            with children(1, write_until_killed) as ((pid, _),):
                deadline = time.monotonic() + LIMIT_S
                while store.read_since(0, "").revision < before + 3:
                    assert time.monotonic() < deadline, "the writer writes nothing"
                    time.sleep(0.002)
                os.kill(pid, signal.SIGKILL)
            values = stored(store)
            assert values["A"] == values["B"]
            self._check_history(store)
        assert store.write({"A": "1"}) == store.read_since(0, "").revision

    def test_connection_of_the_parent_is_not_used_by_its_children(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0", "LARGE": '"' + "x" * 10_000 + '"'})
        before = stored(store)

        def read(number: int) -> int:
            for _ in range(50):
                assert stored(store) == before
            return number

        # All at once, parent included: answers on a shared connection would be mixed up.
        with children(4, read) as running:
            for _ in range(50):
                assert stored(store) == before
            assert results(running) == [0, 1, 2, 3]
        # A child that ended, and closed what it had, took nothing from the parent.
        in_processes(2, lambda _: (store.close(), stored(store))[1])
        assert stored(store) == before
        assert store.write({"A": "1"}) == 2

    # A store may have forks wait for its work, and this machine may be busy.
    @mock.patch.object(forking, "LONGEST_S", LIMIT_S)
    def test_child_that_was_forked_within_a_change_can_make_one(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0"})
        within = threading.Event()
        failures: list[BaseException] = []

        def before_commit() -> None:
            within.set()
            time.sleep(0.05)

        more: dict[str, Any] = {"before_commit": before_commit} if store.calls_before_commit else {}

        def write() -> None:
            try:
                store.write({"A": "1"}, **more)
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=write)
        thread.start()
        if more:
            assert within.wait(LIMIT_S)
        assert in_processes(1, lambda _: store.write({"B": "1"})) in ([2], [3])
        thread.join()
        assert not failures
        assert stored(store) == {"A": "1", "B": "1"}

    def test_threads_share_a_store(self, store: Store) -> None:
        store.prepare()
        failures: list[BaseException] = []

        def run(number: int) -> None:
            try:
                for _ in range(5):
                    store.write({f"NAME_{number}": "1"})
                    store.read_since(0, "")
                    store.history(limit=1)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.read_since(0, "").revision == 30
        self._check_history(store)

    def _check_writers(self, store: Store, *, writers: int, changes: int) -> None:
        store.prepare()

        def write(number: int) -> list[int]:
            return [
                store.write({"SHARED": f'"{number}"', f"OWN_{number}": str(change)})
                for change in range(changes)
            ]

        made = in_processes(writers, write)
        total = writers * changes
        assert sorted(revision for each in made for revision in each) == [*range(1, total + 1)]
        assert store.read_since(0, "").revision == total
        last = max(range(writers), key=lambda number: made[number][-1])
        assert stored(store) == {
            "SHARED": f'"{last}"',
            **{f"OWN_{number}": str(changes - 1) for number in range(writers)},
        }
        self._check_history(store, shared="SHARED")

    def _check_history(self, store: Store, shared: str | None = None) -> None:
        """Assert that each revision has its history, and each old value was a new one before."""
        revision = store.read_since(0, "").revision
        while True:
            entries = store.history(limit=1_000_000)
            # A server may still commit what a writer has sent that was killed.
            before, revision = revision, store.read_since(0, "").revision
            if revision == before:
                break
        assert {entry.revision for entry in entries} == set(range(1, revision + 1))
        if shared is not None:
            chain = [entry for entry in reversed(entries) if entry.name == shared]
            assert [entry.old_raw for entry in chain] == [
                None,
                *[entry.new_raw for entry in chain[:-1]],
            ]
