"""The part of the stores' contract that is about lost data, and who stands in for it."""

from __future__ import annotations

import contextlib

from ..errors import StoreError, StoreMissing
from ..stores.base import Store
from ..stores.epochs import word_of
from .assertions import raises, skip, stored
from .forked import in_processes
from .report_contract import a_report


class LossContract:
    """The contract of a store that stands in for others; skipped for one that does not."""

    def lose(self, store: Store) -> None:
        """Remove all that the store keeps, by other means than the store: remove its file, say."""
        skip("no lose() is given for this store")

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
            skip("it does not keep which stores it has replaced")
