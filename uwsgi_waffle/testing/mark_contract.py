"""The part of the stores' contract that is about marks."""

from __future__ import annotations

import contextlib

from ..errors import StoreError
from ..snapshot import Delta, Row
from ..stores.base import Store
from .assertions import read_after, skip
from .forked import in_processes


class MarkContract:
    """The contract of a store that gives each change a mark; skipped for one that does not."""

    def going_back(self, store: Store) -> contextlib.AbstractContextManager[None]:
        """Return a context at whose end the store is as it was at its beginning.

        As when a backup is restored while the store is in use: epoch, revision, settings and
        history are those of the beginning.
        """
        skip("no going_back() is given for this store")

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
            skip("it has no load()")
        loaded = store.read_since(0, "")
        assert loaded.mark
        assert loaded.mark not in (first.mark, second.mark)
        for known in (first, second):
            delta = store.read_since(known.revision, loaded.epoch, known.mark)
            assert delta == loaded
        assert read_after(store, loaded) == loaded._replace(rows=(), complete=False)
        store.write({"C": "3"})
        assert read_after(store, loaded).rows == (("C", "3"),)

    def _marked(self, store: Store) -> tuple[Delta, Delta]:
        """Make two changes; return a complete read after each, of a store that keeps marks."""
        store.prepare()
        store.write({"A": "1", "B": "1"})
        first = store.read_since(0, "")
        if not first.mark:
            skip("it keeps no marks: a revision that comes back is taken for nothing new")
        store.write({"B": "2"})
        return first, store.read_since(0, "")

    def _mark_after(self, store: Store, number: int) -> str:
        """Return the mark of a change that is made now, while others make theirs."""
        while True:
            revision = store.write({f"OWN_{number}": "1"})
            delta = store.read_since(0, "")
            if delta.revision == revision:
                return delta.mark
