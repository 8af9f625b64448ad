"""A change that the database gives up for another is tried again, ever more rarely."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peewee import SqliteDatabase
from sqlalchemy.exc import OperationalError

from uwsgi_waffle import ConfigurationError, StoreError, StoreUnavailable
from uwsgi_waffle.stores.base import PRUNED_AT_ONCE, Channel
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sql import attempts as again
from uwsgi_waffle.stores.sql import changes
from uwsgi_waffle.stores.sql.changes import PRUNED_EACH
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlalchemy.statements import AlchemyStatements

from ..support.descriptors import open_descriptors
from ..support.rig import Clock


class GivenUpError(Exception):
    """What a database raises whose transaction may be repeated."""


class Attempts:
    """A store whose commits fail so often, by a clock that its pauses advance."""

    def __init__(self, store: AlchemyWaffleStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.failures = 0
        self.error: Exception = GivenUpError()
        self.made = 0
        #: of each attempt, in seconds
        self.bounds: list[float] = []
        self.clock = Clock()
        connections: Any = store._connections()
        self._change = connections.change
        monkeypatch.setattr(type(connections), "change", self.change)
        monkeypatch.setattr(again, "is_failure", lambda exc: True)
        monkeypatch.setattr(again, "is_transient", lambda exc: isinstance(exc, GivenUpError))
        time = SimpleNamespace(monotonic=self.clock, sleep=self.clock.sleep)
        for module in (again, changes):
            monkeypatch.setattr(module, "time", time)

    def change(self, *args: Any) -> Any:
        self.made += 1
        self.bounds.append(args[-2])
        if self.made <= self.failures:
            raise self.error
        return self._change(*args[-3:])


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    store = AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db")
    store.prepare()
    with contextlib.closing(store):
        yield Attempts(store, monkeypatch)


def test_change_is_tried_until_it_succeeds(attempts: Attempts) -> None:
    attempts.failures = 3
    assert attempts.store.write({"A": "1"}) == 1
    assert (attempts.made, len(attempts.clock.slept)) == (4, 3)
    assert 0.01 <= attempts.clock.slept[0] <= 0.02


def test_change_is_given_up_when_its_time_is_over(attempts: Attempts) -> None:
    attempts.failures = 10_000
    with pytest.raises(StoreUnavailable):
        attempts.store.write({"A": "1"})
    assert 4.7 < sum(attempts.clock.slept) <= 5.0
    assert 0.1 < max(attempts.clock.slept) <= 0.2


class OutageError(GivenUpError):
    """What a driver raises whose connection was ended."""


@pytest.mark.parametrize(
    ("error", "late_s", "reads"),
    [(OutageError(), 0.0, 2), (OutageError(), 1.0, 1), (GivenUpError(), 0.0, 1)],
)
def test_read_is_made_again_only_after_an_outage_and_within_its_bound(
    attempts: Attempts,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    late_s: float,
    reads: int,
) -> None:
    connections: Any = attempts.store._connections()
    reading = connections.reading
    bounds: list[float] = []

    @contextlib.contextmanager
    def broken_once(self: Any, bound_s: float) -> Any:
        bounds.append(bound_s)
        if len(bounds) == 1:
            attempts.clock.advance(late_s or 0.25)
            raise error
        with reading(bound_s) as connection:
            yield connection

    monkeypatch.setattr(type(connections), "reading", broken_once)
    monkeypatch.setattr(again, "is_outage", lambda exc: isinstance(exc, OutageError))
    if reads == 2:
        assert attempts.store.read_since(0, "").revision == 0
    else:
        with pytest.raises(StoreUnavailable):
            attempts.store.read_since(0, "")
    assert bounds == pytest.approx([1.0, 0.75][:reads])


class LostError(Exception):
    """What a driver raises on a kept connection whose server was restarted, or takes no changes."""


@pytest.mark.parametrize("kind", ["is_outage", "is_read_only"])
def test_change_that_meets_a_lost_connection_is_made_once_more(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(again, kind, lambda exc: isinstance(exc, LostError))
    attempts.failures, attempts.error = 1, LostError()
    assert attempts.store.write({"A": "1"}) == 1
    assert attempts.made == 2
    # Then the server itself is away.
    attempts.failures = 10_000
    with pytest.raises(StoreError):
        attempts.store.write({"A": "2"})
    assert attempts.made == 4


def test_change_whose_connection_is_lost_within_it_is_not_made_again(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, mark: str) -> int:
        raise LostError

    monkeypatch.setattr(again, "is_outage", lambda exc: isinstance(exc, LostError))
    monkeypatch.setattr(AlchemyStatements, "raise_revision", fail)
    with pytest.raises(StoreError):
        attempts.store.write({"A": "1"})
    assert attempts.made == 1


def test_history_that_is_too_long_shrinks_faster_than_changes_make_it_grow() -> None:
    assert PRUNED_AT_ONCE >= 2 * PRUNED_EACH


def test_each_attempt_has_what_is_left_of_the_bound(attempts: Attempts) -> None:
    attempts.failures = 3
    attempts.store.write({"A": "1"}, before_commit=lambda: None)
    assert attempts.bounds[0] == pytest.approx(5.0)
    assert attempts.bounds == pytest.approx(
        [5.0 - sum(attempts.clock.slept[:number]) for number in range(4)]
    )


def test_bound_of_a_write_that_is_given_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db", write_timeout_s=0.5)
    store.prepare()
    with contextlib.closing(store):
        attempts = Attempts(store, monkeypatch)
        attempts.failures = 10_000
        with pytest.raises(StoreUnavailable):
            store.write({"A": "1"})
    assert 0.2 < sum(attempts.clock.slept) <= 0.5


class IntegrityError(Exception):
    """What a driver raises of a row that is there already."""


def test_change_that_collides_is_tried_ten_times(attempts: Attempts) -> None:
    attempts.failures, attempts.error = 10_000, IntegrityError()
    with pytest.raises(StoreError):
        attempts.store.write({"A": "1"})
    assert attempts.made == 10


def test_tables_that_another_process_just_made_are_made_at_the_next_attempt(
    attempts: Attempts,
) -> None:
    attempts.failures, attempts.error = 1, ValueError("it is there already")
    attempts.store.create_tables()
    assert attempts.made == 2
    # A change is not: it would fail again.
    attempts.failures = 3
    with pytest.raises(StoreError):
        attempts.store.write({"A": "1"})
    assert attempts.made == 3


def test_what_comes_before_the_commit_fails_as_itself_and_once(attempts: Attempts) -> None:
    calls: list[int] = []
    own = OperationalError("statement", {}, Exception("of the user's own database"))

    def fail() -> None:
        calls.append(1)
        raise own

    with pytest.raises(OperationalError) as caught:
        attempts.store.write({"A": "1"}, before_commit=fail)
    assert caught.value is own
    assert len(calls) == 1
    assert attempts.store.read_since(0, "").revision == 0


def test_process_looks_for_dead_reports_once_in_five_minutes(attempts: Attempts) -> None:
    store, looks = attempts.store, []
    for seconds in (0.0, 0.0, 299.0, 1.0, 299.0, 1.0):
        attempts.clock.advance(seconds)
        looks.append(store._looks_for_dead())
    assert looks == [True, False, False, True, False, True]


def test_history_is_pruned_by_some_changes_to_exactly_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PRUNED_EACH", 4)
    monkeypatch.setattr(changes, "PRUNED_AT_ONCE", 8)
    store = AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db", history_limit=7)
    store.prepare()

    def write() -> int:
        store.write({"A": "1"})
        return len(store.history(limit=100))

    with contextlib.closing(store):
        lengths = [write() for _ in range(12)]
        assert lengths == [1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 7]
        # As after a deploy with a longer and a lower limit.
        store._history_limit = 100
        for _ in range(8):
            write()
        store._history_limit = 1
        assert [write() for _ in range(8)] == [16, 17, 18, 11, 12, 13, 14, 7]


@pytest.mark.parametrize(
    ("dialect", "channel", "announces"),
    [
        ("postgresql", Channel("postgresql", "news"), True),
        ("postgresql", Channel("redis", "news", "redis://nowhere/0"), False),
        ("sqlite", Channel("postgresql", "news"), False),
    ],
)
def test_change_is_announced_with_it_by_postgresql_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
    channel: Channel,
    announces: bool,
) -> None:
    store = AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db")
    told: list[tuple[str, ...]] = []
    with contextlib.closing(store):
        store.prepare()
        assert store.dialect == "sqlite"
        store._dialect = dialect
        store.announce_on(channel)
        monkeypatch.setattr(
            AlchemyStatements, "notify", lambda self, *message: told.append(message)
        )
        assert store.announces is announces
        store.write({"A": "1"})
        store.load(store.dump())
        store.stand_in(["0" * 16])
        assert told == [("news",)] * 3 * announces
        store.enroll("shop", "what it declares")
        assert len(told) == 3 * announces, "no reader need know of that"
        store.notify("news", "hello")
        assert told[-1] == ("news", "hello")


@pytest.mark.parametrize("make", [AlchemyWaffleStore, PeeweeWaffleStore])
def test_prefix_that_a_database_would_cut_is_refused(make: Any, tmp_path: Path) -> None:
    db: Any = f"sqlite:///{tmp_path}/a.db" if make is AlchemyWaffleStore else SqliteDatabase(None)
    assert make(db, prefix="a" * 54).prefix == "a" * 54
    for prefix in ("a" * 55, "ä" * 28):
        with pytest.raises(ConfigurationError, match="at most 54 bytes"):
            make(db, prefix=prefix)


def test_tables_are_made_by_who_may_without_a_change(tmp_path: Path) -> None:
    path = tmp_path / "waffle.db"
    with contextlib.closing(AlchemyWaffleStore(f"sqlite:///{path}")) as store:
        assert store.files() == (path,)
        store.create_tables()
        assert store.read_since(0, "").revision == 0
    assert not open_descriptors(path)
