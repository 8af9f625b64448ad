"""What the built-in stores must do with a history that grows too long."""

from __future__ import annotations

from typing import Any

import pytest

from uwsgi_waffle.stores.redis import store as of_redis
from uwsgi_waffle.stores.sql import changes
from uwsgi_waffle.stores.sqlite import store as of_sqlite
from uwsgi_waffle.testing.assertions import raises, read_after, stored

LIMIT = 5
#: In place of the stores' own, so that few changes show it.
PRUNED_EACH, PRUNED_AT_ONCE = 4, 8
#: by so many may the history be longer
SLACK = PRUNED_EACH


class PruningContract:
    """For a store whose limit is set here, as the app's option sets it."""

    @pytest.fixture(autouse=True)
    def _short_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(changes, "PRUNED_EACH", PRUNED_EACH)
        for module in (changes, of_sqlite, of_redis):
            monkeypatch.setattr(module, "PRUNED_AT_ONCE", PRUNED_AT_ONCE)

    def test_history_keeps_the_newest_changes_each_of_them_whole(self, store: Any) -> None:
        store._history_limit = LIMIT
        store.prepare()
        known = [store.read_since(0, "")]
        for number in range(LIMIT + 2 * SLACK):
            store.write({"A": str(number), "B": str(-number)}, author="ann")
            known.append(store.read_since(0, ""))
            kept = {entry.revision for entry in store.history(limit=10_000)}
            newest = number + 1
            assert kept == set(range(min(kept), newest + 1))
            assert min(LIMIT, newest) <= len(kept) <= LIMIT + SLACK
            assert len(store.history(limit=10_000)) == 2 * len(kept)
        assert min(kept) > 1
        # Who is so far behind that its mark is gone reads everything, and others what is new.
        for delta in known[1 : min(kept)]:
            assert read_after(store, delta) == known[-1]
        assert not read_after(store, known[-2]).complete
        assert store.history(name="A", limit=1)[0].author == "ann"

    def test_history_that_is_far_too_long_is_shortened_step_by_step(self, store: Any) -> None:
        store.prepare()
        for number in range(3 * PRUNED_EACH):
            store.write({"A": str(number)})
        # As after a deploy with a lower limit.
        store._history_limit = 1
        length = 3 * PRUNED_EACH
        for _ in range(3 * PRUNED_EACH):
            store.write({"A": "0"})
            before, length = length, len(store.history(limit=10_000))
            assert before + 1 - length <= PRUNED_AT_ONCE
        entries = store.history(limit=10_000)
        assert 1 <= len(entries) <= 1 + SLACK
        assert entries[0].revision == 6 * PRUNED_EACH
        assert stored(store) == {"A": "0"}

    def test_change_that_is_not_committed_prunes_nothing(self, store: Any) -> None:
        store.prepare()
        store._history_limit = 1
        for number in range(PRUNED_EACH - 1):
            store.write({"A": str(number)})
        before = store.history(limit=10_000)

        def refuse() -> None:
            raise ZeroDivisionError

        with raises(ZeroDivisionError):
            store.write({"A": "x"}, before_commit=refuse)
        assert store.history(limit=10_000) == before
