"""Stores against a dict: random histories of changes, reads, conflicts and reopening."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy.pool import NullPool

from uwsgi_waffle import RevisionConflict
from uwsgi_waffle.stores import Store
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing.assertions import read_after

from ..support.hypothesis_profiles import effort

NAMES = st.sampled_from(["A", "B", "C", "a", "Ä", "N" * 255])
# A store takes any text: what is JSON and what is not is none of its business.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
RAWS = st.dictionaries(NAMES, st.one_of(st.none(), TEXT), min_size=1, max_size=4)
PEOPLE = st.one_of(st.none(), TEXT)
PICK = st.integers(0, 10**6)

Values = dict[str, str]


def laid_over(values: Mapping[str, str], rows: Mapping[str, str | None]) -> Values:
    """Return raw texts by name after some of them were changed or reset."""
    merged = {**values, **rows}
    return {name: raw for name, raw in merged.items() if raw is not None}


class StoreMachine(RuleBasedStateMachine):
    """What a store must do, beside a list that holds the values at each revision."""

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="waffle-model-"))
        self.path = self.folder / "waffle.db"
        self.engines: list[sa.Engine] = []
        self.states: list[Values] = [{}]
        self.entries: list[tuple[Any, ...]] = []
        self.store = self.open()
        self.others: list[Store] = []

    def open(self) -> Store:
        if self.kind == "sqlite":
            return SqliteStore(self.path)
        # A pool would keep connections that this test would have to close.
        engine = sa.create_engine(f"sqlite:///{self.path}", poolclass=NullPool)
        self.engines.append(engine)
        return AlchemyWaffleStore(engine)

    def teardown(self) -> None:
        for store in [self.store, *self.others]:
            store.close()
        for engine in self.engines:
            engine.dispose()
        shutil.rmtree(self.folder)

    @initialize()
    def prepare_it(self) -> None:
        self.store.prepare()
        self.known = [self.store.read_since(0, "")]
        self.epoch = self.known[0].epoch
        assert self.epoch

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    # Changes

    @rule(raws=RAWS, author=PEOPLE, reason=PEOPLE, expects=st.booleans())
    def write(
        self, raws: dict[str, str | None], author: str | None, reason: str | None, expects: bool
    ) -> None:
        expected = self.revision if expects else None
        made = self.store.write(raws, author=author, reason=reason, expected_revision=expected)
        old = self.states[-1]
        self.entries[:0] = [
            (made, name, old.get(name), raws[name], author, reason) for name in sorted(raws)
        ]
        self.states.append(laid_over(old, raws))
        assert made == self.revision
        self.known.append(read_after(self.store, self.known[-1]))

    @rule(raws=RAWS, off_by=st.integers(-3, 3).filter(bool))
    def write_with_another_revision_expected(
        self, raws: dict[str, str | None], off_by: int
    ) -> None:
        with pytest.raises(RevisionConflict) as caught:
            self.store.write(raws, expected_revision=self.revision + off_by)
        assert caught.value.actual == self.revision

    @rule(raws=RAWS)
    def write_what_no_database_takes(self, raws: dict[str, str | None]) -> None:
        with pytest.raises(Exception, match="surrogate"):
            self.store.write({**raws, "Z": '"\ud800"'})

    # Reading

    @rule(pick=PICK)
    def read_since_an_earlier_revision(self, pick: int) -> None:
        since = pick % (self.revision + 1)
        delta = read_after(self.store, self.known[since])
        assert (delta.revision, delta.epoch) == (self.revision, self.epoch)
        assert delta.complete == (since == 0)
        rows = dict(delta.rows)
        assert len(rows) == len(delta.rows)
        base: Values = {} if delta.complete else self.states[since]
        assert laid_over(base, rows) == self.states[-1]
        if not delta.complete:
            assert rows.keys() == {name for made, name, *_ in self.entries if made > since}

    @rule(
        since=st.integers(0, 100),
        epoch=st.sampled_from(["", "another", "x" * 32]),
    )
    def read_since_another_life_of_the_store(self, since: int, epoch: str) -> None:
        self.check_complete(since, epoch)

    @rule(ahead=st.integers(1, 10))
    def read_since_a_revision_that_is_not_reached(self, ahead: int) -> None:
        self.check_complete(self.revision + ahead, self.epoch)

    def check_complete(self, since: int, epoch: str) -> None:
        delta = self.store.read_since(since, epoch)
        assert (delta.revision, delta.epoch, delta.complete) == (self.revision, self.epoch, True)
        assert laid_over({}, dict(delta.rows)) == self.states[-1]

    @rule(name=st.one_of(st.none(), NAMES, st.just("MISSING")), limit=st.integers(0, 8))
    def read_history(self, name: str | None, limit: int) -> None:
        wanted = [entry for entry in self.entries if name in (None, entry[1])]
        found = self.store.history(name=name, limit=limit)
        if any(not made[1].isascii() for made in wanted) and name is None:
            # Databases need not agree about the order of names within one change.
            assert [entry.revision for entry in found] == [entry[0] for entry in wanted[:limit]]
        else:
            assert [entry[:6] for entry in found] == wanted[:limit]

    @precondition(lambda self: self.revision > 0)
    @rule(pick=PICK)
    def reconstruct_a_revision_from_history(self, pick: int) -> None:
        back_to = pick % self.revision
        values = laid_over({}, dict(self.store.read_since(0, "").rows))
        for entry in self.store.history(limit=10**6):
            if entry.revision > back_to:
                assert values.get(entry.name) == entry.new_raw
                values = laid_over(values, {entry.name: entry.old_raw})
        assert values == self.states[back_to]

    # Lives

    @rule()
    def close(self) -> None:
        self.store.close()

    @rule()
    def prepare_again(self) -> None:
        self.store.prepare()

    @rule()
    def go_on_with_a_new_instance(self) -> None:
        self.others.append(self.store)
        self.store = self.open()

    @precondition(lambda self: self.others)
    @rule(pick=PICK)
    def go_on_with_an_earlier_instance(self, pick: int) -> None:
        self.others.append(self.store)
        self.store = self.others.pop(pick % (len(self.others) - 1))

    @invariant()
    def revision_counts_the_changes(self) -> None:
        if hasattr(self, "epoch"):
            known = self.known[-1]
            expected = known._replace(rows=(), complete=self.revision == 0)
            assert read_after(self.store, known) == expected
            assert (known.revision, known.epoch) == (self.revision, self.epoch)


class SqliteMachine(StoreMachine):
    kind = "sqlite"


class AlchemyMachine(StoreMachine):
    kind = "sqlalchemy"


TestSqliteStoreIsLikeItsModel = SqliteMachine.TestCase
TestSqliteStoreIsLikeItsModel.settings = effort(12, steps=25)
TestAlchemyStoreIsLikeItsModel = AlchemyMachine.TestCase
TestAlchemyStoreIsLikeItsModel.settings = effort(8, steps=25)
TestAlchemyStoreIsLikeItsModel = pytest.mark.slow(TestAlchemyStoreIsLikeItsModel)
