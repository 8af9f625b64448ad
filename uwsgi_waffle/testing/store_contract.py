"""The contract that every store keeps."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta, timezone

from ..errors import RevisionConflict, StoreError, StoreUnavailable
from ..stores.base import Store
from .assertions import raises, read_after, skip, stored
from .commit_contract import CommitContract
from .forked import in_processes
from .loss_contract import LossContract
from .mark_contract import MarkContract
from .process_contract import ProcessContract
from .report_contract import ReportContract


class StoreContract(ProcessContract, MarkContract, CommitContract, LossContract, ReportContract):
    """The contract of every store; subclass it and give it a fixture named ``store``.

    The fixture gives a store that is empty and not yet prepared. Override :meth:`outage` to have
    failures of the server tested as well, :meth:`going_back` to have restored backups tested, and
    :meth:`lose` to have lost data tested. Tests of marks, of ``before_commit`` and of stores that
    stand in for others are skipped if the store has none of these.
    """

    def outage(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the store can't be reached, and works again after it."""
        skip("no outage() is given for this store")

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
