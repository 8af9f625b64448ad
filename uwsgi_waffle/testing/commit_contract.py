"""The part of the stores' contract that is about what is called before and after a commit."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import RevisionConflict
from ..snapshot import Delta
from ..stores.base import Committed, Store
from .assertions import raises, skip, stored
from .forked import LIMIT_S


class CommitContract:
    """The contract of a store that calls ``before_commit``; skipped for one that does not."""

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

    def test_what_a_change_reports_is_what_readers_of_the_revision_before_lack(
        self, store: Store
    ) -> None:
        write = self._reporting_write(store)
        store.prepare()
        store.write({"A": "0"})
        found: list[tuple[Committed, Delta]] = []

        def receive(committed: Committed) -> None:
            known = committed.revision, committed.delta.epoch, committed.mark
            found.append((committed, store.read_since(*known)))

        for raws in ({"A": "1", "B": '"\u00e9 \U0001f600"'}, {"A": None, "C": "1"}, {"A": "2"}):
            before = store.read_since(0, "")
            revision = write(raws, committed=receive)
            (committed, read) = found.pop()
            assert not found
            assert (committed.revision, committed.mark) == (before.revision, before.mark)
            assert committed.delta.revision == revision == before.revision + 1
            assert sorted(committed.delta.rows) == sorted(read.rows)
            assert committed.delta._replace(rows=()) == read._replace(rows=())

    def test_change_that_was_not_committed_reports_nothing(self, store: Store) -> None:
        write = self._reporting_write(store)
        store.prepare()
        found: list[Committed] = []

        def refuse() -> None:
            raise ZeroDivisionError

        with raises(RevisionConflict):
            write({"A": "1"}, expected_revision=7, committed=found.append)
        if store.calls_before_commit:
            with raises(ZeroDivisionError):
                write({"A": "1"}, before_commit=refuse, committed=found.append)
        assert not found

    def _reporting_write(self, store: Store) -> Callable[..., int]:
        if not store.reports_committed:
            skip("it reports nothing of its commit")
        return store.write

    def _need_before_commit(self, store: Store) -> None:
        if not store.calls_before_commit:
            skip("it calls nothing before its commit")
