"""The contract that every store keeps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

from ..errors import RevisionConflict, StoreError, StoreMissing, StoreUnavailable
from ..snapshot import Delta, Row
from ..stores.base import Store
from ..stores.epochs import word_of
from .forked import LIMIT_S, children, in_processes, results
from .report_contract import ReportContract, a_report


class StoreContract(ReportContract):
    """The contract of every store; subclass it and give it a fixture named ``store``.

    The fixture gives a store that is empty and not yet prepared. Override :meth:`outage` to have
    failures of the server tested as well, :meth:`going_back` to have restored backups tested, and
    :meth:`lose` to have lost data tested. What only a store with marks can do, or only one that
    calls ``before_commit`` or keeps what it has replaced, is skipped for others.
    """

    #: how many changes each of many concurrent writers makes
    changes_per_writer = 5

    def outage(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the store can't be reached, and works again after it."""
        self._skip("no outage() is given for this store")

    def going_back(self, store: Store) -> contextlib.AbstractContextManager[None]:
        """Return a context at whose end the store is as it was at its beginning.

        As when a backup is restored behind the back of all that use it: epoch, revision, settings
        and history are those of the beginning.
        """
        self._skip("no going_back() is given for this store")

    def lose(self, store: Store) -> None:
        """Take away all that the store keeps, behind its back, as by a file that is removed."""
        self._skip("no lose() is given for this store")

    def test_prepared_store_is_empty_at_revision_zero(self, store: Store) -> None:
        store.prepare()
        delta = store.read_since(0, "")
        assert (delta.revision, delta.rows, delta.complete) == (0, (), True)
        assert delta.epoch
        assert store.history() == []

    def test_prepare_may_be_called_again_and_keeps_everything(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        before = store.read_since(0, "")
        store.prepare()
        assert store.read_since(0, "") == before

    def test_prepare_is_safe_in_sixteen_processes_at_once(self, store: Store) -> None:
        def prepare(number: int) -> str:
            store.prepare()
            return store.read_since(0, "").epoch

        epochs = in_processes(16, prepare)
        assert len(set(epochs)) == 1
        assert store.read_since(0, "")[:2] == (0, epochs[0])

    def test_revision_grows_by_one_with_each_change(self, store: Store) -> None:
        store.prepare()
        assert [store.write({"A": str(number)}) for number in range(3)] == [1, 2, 3]
        assert stored(store) == {"A": "2"}
        assert store.read_since(0, "").revision == 3

    def test_change_of_many_settings_is_one_revision(self, store: Store) -> None:
        store.prepare()
        raws = {f"NAME_{number}": str(number) for number in range(1000)}
        assert store.write(raws) == 1
        assert stored(store) == raws
        assert store.write(dict.fromkeys(raws, '"b"')) == 2
        assert stored(store) == dict.fromkeys(raws, '"b"')

    def test_read_since_returns_exactly_the_newer_rows(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1", "C": "1"})
        known = store.read_since(0, "")
        store.write({"B": "2"})
        last = store.write({"C": "3", "D": "3"})
        delta = read_after(store, known)
        assert dict(delta.rows) == {"B": "2", "C": "3", "D": "3"}
        assert len(delta.rows) == 3
        assert (delta.revision, delta.epoch, delta.complete) == (last, known.epoch, False)

    def test_read_since_the_current_revision_returns_no_row(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        known = store.read_since(0, "")
        assert read_after(store, known) == known._replace(rows=(), complete=False)

    def test_read_is_complete_when_the_reader_knows_another_store(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        store.write({"B": "2"})
        epoch = store.read_since(0, "").epoch
        for known in ((0, ""), (0, epoch), (1, "another"), (2, "another"), (3, epoch)):
            delta = store.read_since(*known)
            assert delta.complete, known
            assert (delta.revision, delta.epoch) == (2, epoch)
            assert dict(delta.rows) == {"A": "1", "B": "2"}

    def test_reset_travels_to_readers(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1"})
        first = store.read_since(0, "")
        store.write({"A": None})
        second = read_after(store, first)
        assert second.rows == (("A", None),)
        assert stored(store) == {"B": "1"}
        store.write({"A": "2"})
        assert read_after(store, second).rows == (("A", "2"),)
        assert stored(store) == {"A": "2", "B": "1"}

    def test_reset_of_a_setting_that_was_never_stored(self, store: Store) -> None:
        store.prepare()
        assert store.write({"A": None}) == 1
        assert stored(store) == {}
        (entry,) = store.history()
        assert (entry.old_raw, entry.new_raw) == (None, None)

    def test_history_tells_who_why_and_what(self, store: Store) -> None:
        store.prepare()
        began = datetime.now(timezone.utc) - timedelta(seconds=1)
        store.write({"A": "1", "B": '"b"'}, author="ann", reason="first day")
        store.write({"A": "2"}, author="bob")
        store.write({"A": None})
        entries = store.history()
        assert [entry[:6] for entry in entries] == [
            (3, "A", "2", None, None, None),
            (2, "A", "1", "2", "bob", None),
            (1, "A", None, "1", "ann", "first day"),
            (1, "B", None, '"b"', "ann", "first day"),
        ]
        ended = datetime.now(timezone.utc) + timedelta(seconds=1)
        assert all(began <= entry.at <= ended for entry in entries)

    def test_history_of_one_setting_and_of_the_newest(self, store: Store) -> None:
        store.prepare()
        for number in range(1, 6):
            store.write({"A": str(number), f"OTHER_{number}": "0"})
        assert [entry.revision for entry in store.history(name="A")] == [5, 4, 3, 2, 1]
        assert [entry.new_raw for entry in store.history(name="A", limit=2)] == ["5", "4"]
        assert [entry[:2] for entry in store.history(limit=3)] == [
            (5, "A"),
            (5, "OTHER_5"),
            (4, "A"),
        ]
        assert store.history(name="MISSING") == []

    def test_conflict_writes_nothing(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        store.write({"A": "2"}, expected_revision=1)
        before = store.read_since(0, ""), store.history()
        for expected in (0, 1, 3):
            with raises(RevisionConflict) as caught:
                store.write({"A": "9", "B": "9"}, expected_revision=expected)
            assert (caught[0].expected, caught[0].actual) == (expected, 2)
        assert (store.read_since(0, ""), store.history()) == before
        assert store.write({"A": "3"}, expected_revision=2) == 3

    def test_failed_write_leaves_the_old_values(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1"})
        before = store.read_since(0, ""), store.history()
        # Half of a surrogate pair is no text that any database takes.
        unstorable = {"A": "2", "B": '"\ud800"', "C": "2"}
        with raises(StoreError):
            store.write(unstorable)
        assert (store.read_since(0, ""), store.history()) == before
        assert store.write({"A": "2"}) == 2

    def test_reading_changes_nothing(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"}, author="ann")
        before = store.read_since(0, ""), store.history()
        for known in ((0, ""), (1, before[0].epoch), (7, "another")):
            store.read_since(*known)
            store.history(name="A")
        assert (store.read_since(0, ""), store.history()) == before
        assert store.write({"A": "2"}) == 2

    def test_texts_come_back_as_they_were_written(self, store: Store) -> None:
        store.prepare()
        raws = {
            "EMPTY": "",
            "UMLAUTS": '"Zürich, Ελλάδα, 東京"',
            "EMOJI": '"🧇🏴‍☠️"',
            "SPACES": ' "  x  " \n\t ',
            "QUOTES": '{"a": "it\'s %s :name ? $1 {} \\\\ \\u0000"}',
            "LARGE": '"' + "é🧇x" * 149_796 + '"',
        }
        store.write(raws, author="Åse 🧇", reason="naïve — reason")
        assert stored(store) == raws
        (entry,) = store.history(name="EMOJI")
        assert entry[3:6] == (raws["EMOJI"], "Åse 🧇", "naïve — reason")

    def test_names_are_long_and_tell_cases_apart(self, store: Store) -> None:
        store.prepare()
        long = "N" * 255
        raws = {long: "1", long[:-1] + "M": "2", "Name": "3", "NAME": "4", "ÑAME": "5"}
        store.write(raws)
        store.write({"name": "6"})
        assert stored(store) == {**raws, "name": "6"}
        assert [entry.new_raw for entry in store.history(name="NAME")] == ["4"]
        assert store.history(name=long)[0].name == long

    def test_closed_store_opens_again(self, store: Store) -> None:
        store.close()
        store.prepare()
        store.write({"A": "1"})
        store.close()
        store.close()
        assert stored(store) == {"A": "1"}
        store.close()
        assert store.write({"A": "2"}) == 2

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
            return 1

        assert in_processes(3, run) == [0, 1, 1]

    def test_killed_writer_leaves_whole_changes(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0", "B": "0"})

        def write_until_killed(number: int) -> None:
            for value in range(1_000_000):
                store.write({"A": str(value), "B": str(value)})

        for _ in range(3):
            with children(1, write_until_killed) as ((pid, _),):
                time.sleep(0.3)
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

    def test_each_change_has_a_mark_of_its_own(self, store: Store) -> None:
        deltas = self._marked(store)
        marks = [delta.mark for delta in deltas]
        assert len(set(marks)) == len(marks)
        assert all(marks)
        # A read of what is newer says the current mark, too.
        assert read_after(store, deltas[0]).mark == marks[-1]

    def test_read_is_complete_when_the_reader_knows_another_mark(self, store: Store) -> None:
        first, second = self._marked(store)
        revision, epoch = second.revision, second.epoch
        for known in (
            (revision, epoch, "another"),
            (revision, epoch, first.mark),
            (revision, epoch, ""),
            (first.revision, epoch, second.mark),
            (first.revision, epoch, ""),
            (first.revision, "another", first.mark),
            (revision + 1, epoch, second.mark),
        ):
            assert store.read_since(*known) == second, known
        assert read_after(store, first) == second._replace(rows=(Row("B", "2"),), complete=False)
        assert read_after(store, second) == second._replace(rows=(), complete=False)

    def test_marks_of_all_changes_differ_also_in_forked_siblings(self, store: Store) -> None:
        self._marked(store)

        def write(number: int) -> list[str]:
            return [self._mark_after(store, number) for _ in range(5)]

        found = [mark for each in in_processes(4, write) for mark in each]
        assert len(set(found)) == 20
        assert all(found)

    def test_revision_that_comes_back_with_other_content_is_read_completely(
        self, store: Store
    ) -> None:
        _, first = self._marked(store)
        with self.going_back(store):
            store.write({"A": "500", "GONE": "1"})
            known = read_after(store, first)
            assert dict(known.rows) == {"A": "500", "GONE": "1"}
        store.write({"A": "6"})
        delta = read_after(store, known)
        assert (delta.revision, delta.epoch) == (known.revision, known.epoch)
        assert delta.complete
        assert dict(delta.rows) == {"A": "6", "B": "2"}
        # Also when it was overtaken before the reader looked.
        store.write({"B": "7"})
        delta = read_after(store, known)
        assert delta.complete
        assert dict(delta.rows) == {"A": "6", "B": "7"}
        # Who did not see what is gone reads only what is new.
        delta = read_after(store, first)
        assert not delta.complete
        assert dict(delta.rows) == {"A": "6", "B": "7"}

    def test_marks_of_a_dump_are_made_again_when_it_is_loaded(self, store: Store) -> None:
        first, second = self._marked(store)
        try:
            store.load(store.dump())
        except StoreError as exc:
            if "has no load()" not in str(exc):
                raise
            self._skip("it has no load()")
        loaded = store.read_since(0, "")
        assert loaded.mark
        assert loaded.mark not in (first.mark, second.mark)
        for known in (first, second):
            delta = store.read_since(known.revision, loaded.epoch, known.mark)
            assert delta == loaded
        assert read_after(store, loaded) == loaded._replace(rows=(), complete=False)
        store.write({"C": "3"})
        assert read_after(store, loaded).rows == (("C", "3"),)

    def test_before_commit_is_called_when_only_the_commit_is_left(self, store: Store) -> None:
        self._need_before_commit(store)
        store.prepare()
        seen: list[Delta] = []
        store.write({"A": "1"}, before_commit=lambda: seen.append(store.read_since(0, "")))
        assert [delta.revision for delta in seen] == [0]
        assert stored(store) == {"A": "1"}
        # A store that finds the conflict within its commit may have called it.
        with raises(RevisionConflict):
            store.write({"A": "2"}, expected_revision=7, before_commit=lambda: None)
        assert stored(store) == {"A": "1"}

    def test_before_commit_that_raises_leaves_the_old_values(self, store: Store) -> None:
        self._need_before_commit(store)
        store.prepare()
        store.write({"A": "1", "B": "1"})
        before = store.read_since(0, ""), store.history()

        for error in (ZeroDivisionError, OSError, KeyboardInterrupt):

            def refuse() -> None:
                raise error  # noqa: B023

            # As it was raised: it is no failure of the store.
            with raises(error):
                store.write({"A": "2", "B": None, "C": "2"}, before_commit=refuse)
            assert (store.read_since(0, ""), store.history()) == before
        assert store.write({"A": "2"}) == 2

    def test_before_commit_is_called_when_waiting_for_other_writers_is_over(
        self, store: Store
    ) -> None:
        self._need_before_commit(store)
        store.prepare()
        called, may_commit, second_called = (threading.Event() for _ in range(3))
        revisions: dict[str, int] = {}

        def hold() -> None:
            called.set()
            assert may_commit.wait(LIMIT_S)

        def write(name: str, before_commit: Callable[[], None]) -> None:
            revisions[name] = store.write({name: "1"}, before_commit=before_commit)

        first = threading.Thread(target=write, args=("A", hold))
        second = threading.Thread(target=write, args=("B", second_called.set))
        first.start()
        try:
            assert called.wait(LIMIT_S)
            second.start()
            if second_called.wait(0.3):
                # A store whose writers never wait: nothing holds this one up any more.
                second.join(LIMIT_S)
                assert revisions == {"B": 1}
        finally:
            may_commit.set()
            first.join()
        second.join()
        assert second_called.is_set()
        assert sorted(revisions.values()) == [1, 2]
        assert stored(store) == {"A": "1", "B": "1"}

    def test_outage_is_reported_within_the_bound_and_ends(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        for _ in range(2):
            known = store.read_since(0, "")
            with self.outage():
                for call in (
                    lambda: read_after(store, known),  # noqa: B023
                    lambda: store.write({"A": "2"}),
                    lambda: store.history(),
                    lambda: store.prepare(),
                ):
                    began = time.monotonic()
                    with raises(StoreUnavailable):
                        call()
                    assert time.monotonic() - began < self.bound_s
            assert read_after(store, known) == known._replace(rows=(), complete=False)
            revision = known.revision
            assert store.write({"A": "2"}, expected_revision=revision) == revision + 1

    def test_outage_is_reported_by_a_new_process(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})

        def read(number: int) -> str:
            try:
                store.read_since(0, "")
            except StoreUnavailable:
                return "unavailable"
            return "read"

        with self.outage():
            assert in_processes(1, read) == ["unavailable"]
        assert in_processes(1, read) == ["read"]

    def test_store_that_was_never_made_is_missing_and_is_not_made_by_reading(
        self, store: Store
    ) -> None:
        self._need_replaced(store)
        for _ in range(2):
            self._check_missing(store)
        store.prepare()
        assert store.read_since(0, "").revision == 0

    def test_store_whose_data_is_lost_is_missing_until_it_is_prepared(self, store: Store) -> None:
        self._need_replaced(store)
        store.prepare()
        store.write({"A": "1"})
        before = store.read_since(0, "")
        self.lose(store)
        for _ in range(2):
            self._check_missing(store)
            # A worker that runs goes on to report.
            with contextlib.suppress(StoreError):
                store.report(a_report())
        assert in_processes(1, lambda _: self._check_missing(store)) == [None]
        store.prepare()
        after = store.read_since(before.revision, before.epoch, before.mark)
        assert after.epoch != before.epoch
        assert after.complete
        assert store.replaced() == frozenset()
        store.write({"A": "2"})
        assert stored(store)["A"] == "2"

    def test_store_keeps_what_it_stands_in_for(self, store: Store) -> None:
        self._need_replaced(store)
        store.prepare()
        store.write({"A": "1"})
        before = store.read_since(0, ""), store.history()
        assert store.replaced() == frozenset()
        one, other, third = map(word_of, ("one", "other", "third"))
        store.stand_in([one, other])
        store.stand_in([other])
        store.stand_in([])
        assert store.replaced() == {one, other}
        assert (store.read_since(0, ""), store.history()) == before
        store.prepare()
        store.write({"A": "2"})
        store.load(store.dump())
        assert store.replaced() == {one, other}
        assert store.read_since(0, "").epoch == before[0].epoch

        def refuse() -> None:
            raise ZeroDivisionError

        with raises(ZeroDivisionError):
            store.stand_in([third], before_commit=refuse)
        assert store.replaced() == {one, other}

    def test_store_stands_in_for_what_each_of_many_processes_names(self, store: Store) -> None:
        self._need_replaced(store)
        store.prepare()
        words = [word_of(str(number)) for number in range(8)]
        in_processes(8, lambda number: store.stand_in([words[number]]))
        assert store.replaced() == set(words)

    def _check_missing(self, store: Store) -> None:
        for call in (
            lambda: store.read_since(0, ""),
            lambda: store.read_since(1, "another", "mark"),
            lambda: store.write({"A": "2"}),
            lambda: store.write({"A": "2"}, expected_revision=1),
            lambda: store.history(),
            lambda: store.replaced(),
            lambda: store.stand_in([word_of("another")]),
            lambda: store.dump(),
        ):
            with raises(StoreMissing):
                call()

    def _need_replaced(self, store: Store) -> None:
        if not store.keeps_replaced:
            self._skip("it does not keep which stores it has replaced")

    def _marked(self, store: Store) -> tuple[Delta, Delta]:
        """Make two changes; return a complete read after each, of a store that keeps marks."""
        store.prepare()
        store.write({"A": "1", "B": "1"})
        first = store.read_since(0, "")
        if not first.mark:
            self._skip("it keeps no marks: a revision that comes back is taken for nothing new")
        store.write({"B": "2"})
        return first, store.read_since(0, "")

    def _need_before_commit(self, store: Store) -> None:
        if not store.calls_before_commit:
            self._skip("it calls nothing before its commit")

    def _skip(self, reason: str) -> NoReturn:
        import pytest

        pytest.skip(reason)

    def _mark_after(self, store: Store, number: int) -> str:
        """Return the mark of a change that is made now, while others make theirs."""
        while True:
            revision = store.write({f"OWN_{number}": "1"})
            delta = store.read_since(0, "")
            if delta.revision == revision:
                return delta.mark

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
        entries = store.history(limit=1_000_000)
        assert {entry.revision for entry in entries} == set(range(1, revision + 1))
        if shared is not None:
            chain = [entry for entry in reversed(entries) if entry.name == shared]
            assert [entry.old_raw for entry in chain] == [
                None,
                *[entry.new_raw for entry in chain[:-1]],
            ]


def stored(store: Store) -> dict[str, str]:
    """Return the raw texts of every setting that is not at its default, by name."""
    delta = store.read_since(0, "")
    assert delta.complete
    assert len({row.name for row in delta.rows}) == len(delta.rows)
    return {name: raw for name, raw in delta.rows if raw is not None}


def read_after(store: Store, known: Delta) -> Delta:
    """Return what a reader reads next that has a delta already, and everything before it."""
    if known.mark:
        return store.read_since(known.revision, known.epoch, known.mark)
    # A store that keeps no marks need not take one.
    return store.read_since(known.revision, known.epoch)


@contextlib.contextmanager
def raises(expected: type[BaseException]) -> Iterator[list[Any]]:
    """Assert that the body raises; gives a list that the exception is put into."""
    caught: list[Any] = []
    try:
        yield caught
    except expected as exc:
        caught.append(exc)
    else:
        raise AssertionError(f"{expected.__name__} was not raised")
