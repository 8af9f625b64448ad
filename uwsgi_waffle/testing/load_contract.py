"""The contract of a store that can be restored and copied to."""

from __future__ import annotations

from datetime import datetime, timezone

from ..errors import RevisionConflict
from ..stores.base import Dump, HistoryEntry, Store
from .assertions import raises, read_after, stored

_AT = datetime(2026, 1, 31, 14, 30, 15, 123456, timezone.utc)


class LoadContract:
    """The contract of a store with a ``load``; subclass it and give it a fixture named ``store``.

    The fixture gives a store that is empty and not yet prepared.
    """

    def dump(self) -> Dump:
        """Return a dump that is hard to carry."""
        history = (
            HistoryEntry(9, "A", '"old"', '"ü 🧇 \' = ? %s"', "ann", "why, so?", _AT),
            HistoryEntry(9, "B", None, "1", "ann", "why, so?", _AT),
            HistoryEntry(7, "A", None, '"old"', None, None, _AT),
            HistoryEntry(7, "GONE", "1", None, "", "", _AT),
        )
        raws = {"A": '"ü 🧇 \' = ? %s"', "B": "1", "LONG": f'"{"x" * 70_000}"'}
        return Dump(9, "", raws, history)

    def test_dump_holds_what_was_written(self, store: Store) -> None:
        store.prepare()
        assert store.dump()[2:] == ({}, ())
        store.write({"A": "1", "B": "2"}, author="ann", reason="why")
        store.write({"B": None})
        dump = store.dump()
        assert (dump.revision, dump.raws) == (2, {"A": "1"})
        assert dump.history == tuple(store.history())

    def test_load_replaces_everything(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "0", "OTHER": "1"}, author="before")
        store.load(self.dump())
        loaded = store.dump()
        assert loaded.revision == 9
        assert loaded.raws == self.dump().raws
        assert loaded.history == self.dump().history

    def test_reader_of_what_was_there_before_reads_all_of_it(self, store: Store) -> None:
        store.prepare()
        # At a lower revision, at the very one, and at a higher one.
        for changes in (3, 6, 20):
            for _ in range(changes):
                revision = store.write({"A": "0", "OTHER": "1"})
            before = store.read_since(0, "")
            assert before.revision == revision
            store.load(self.dump())
            after = read_after(store, before)
            assert (after.complete, after.revision) == (True, 9)
            # Without marks, only another epoch shows who was there before that all is new.
            assert before.mark or after.epoch != before.epoch
            assert {name: raw for name, raw in after.rows if raw is not None} == self.dump().raws
            assert not read_after(store, after).complete

    def test_changes_go_on_from_the_revision_that_was_loaded(self, store: Store) -> None:
        store.prepare()
        store.load(self.dump())
        assert store.write({"B": "2", "NEW": "3"}, expected_revision=9) == 10
        new, changed, *rest = sorted(store.history(), key=lambda e: (-e.revision, e.name != "NEW"))
        assert (new.name, new.old_raw, changed.old_raw) == ("NEW", None, "1")
        assert sorted(rest) == sorted(self.dump().history)
        assert stored(store) == {**self.dump().raws, "B": "2", "NEW": "3"}

    def test_load_at_another_revision_than_expected_writes_nothing(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        before = store.dump()
        with raises(RevisionConflict):
            store.load(self.dump(), expected_revision=0)
        assert store.dump() == before
        store.load(self.dump(), expected_revision=1)

    def test_load_that_is_stopped_before_its_commit_writes_nothing(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        before = store.dump()

        def stop() -> None:
            assert store.dump() == before
            raise ZeroDivisionError

        with raises(ZeroDivisionError):
            store.load(self.dump(), before_commit=stop)
        assert store.dump() == before

    def test_settings_without_a_change_are_loaded_too(self, store: Store) -> None:
        # Rows that were there before the first change, put in by hand.
        store.prepare()
        store.load(Dump(0, "", {"A": "1"}, ()))
        assert stored(store) == {"A": "1"}
        assert store.write({"B": "2"}) == 1
        assert stored(store) == {"A": "1", "B": "2"}
