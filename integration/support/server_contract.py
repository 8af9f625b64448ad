"""What every store on a server must do beside the contract of all stores."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
import sqlalchemy as sa

from tests.support.pruning import PruningContract
from uwsgi_waffle.errors import OutcomeUnknown, RevisionConflict, StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.mixin import WaffleMixin
from uwsgi_waffle.testing.assertions import raises, stored
from uwsgi_waffle.testing.report_contract import a_report
from uwsgi_waffle.testing.store_contract import StoreContract

from .stopwatch import Stopwatch
from .waiting import eventually


@contextlib.contextmanager
def restored_rows(url: sa.URL | str) -> Iterator[None]:
    """Bring a database's rows back at the end as they are now, as a restored backup does."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata = sa.MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        saved = {
            table: connection.execute(table.select()).all() for table in metadata.tables.values()
        }
    yield
    with engine.begin() as connection:
        for table, rows in saved.items():
            connection.execute(table.delete())
            if rows:
                connection.execute(table.insert(), [row._asdict() for row in rows])


def drop_tables(url: sa.URL | str) -> None:
    """Drop our tables; those of the user's own model stay."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for name in ("meta", "settings", "revisions", "history", "workers"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS waffle_{name}")


class OnServer:
    """The server that the store of a test is in, and the timeouts of that store."""

    #: can ``stop``, ``start``, ``freeze`` and ``thaw``
    server: Any
    #: so long that no load of the machine is taken for an outage; a refused connection is no wait
    timeout_s = 15.0
    write_timeout_s = 30.0
    bound_s = 20.0

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.server.freeze()
        try:
            yield
        finally:
            self.server.thaw()

    def locked(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which another's transaction holds the row of the revision."""
        raise NotImplementedError


class ServerContract(PruningContract, OnServer, StoreContract):
    """The contract of all stores, with an outage of the server."""

    @pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
    def test_host_whose_clock_is_an_hour_off_is_in_the_list_with_its_right_age(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, off_s: float
    ) -> None:
        store.prepare()
        right = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: right() + off_s)
            store.report(a_report(host="web2", lifetime_s=300.0))
        store.report(a_report(host="web1", lifetime_s=300.0))
        reports = store.workers(600.0)
        assert [report.host for report in reports] == ["web1", "web2"]
        assert all(report.age_s < 120 for report in reports), reports

    def test_outcome_is_unknown_when_the_server_ends_within_the_commit(self, store: Store) -> None:
        if not store.calls_before_commit:
            pytest.skip("it calls nothing before its commit")
        store.prepare()
        store.write({"A": "1"})
        calls: list[int] = []

        def end() -> None:
            calls.append(1)
            self.server.stop()

        with raises(OutcomeUnknown):
            store.write({"A": "2"}, before_commit=end)
        # It is not tried again: the first attempt may have been committed.
        assert calls == [1]
        with raises(StoreUnavailable) as caught:
            store.write({"A": "2"}, before_commit=end)
        assert not isinstance(caught[0], OutcomeUnknown)
        self.server.start()
        assert stored(store) in ({"A": "1"}, {"A": "2"})


class KeptContract(OnServer):
    """A store in an SQL database reads and changes on connections that it keeps."""

    @abstractmethod
    def connections(self) -> set[int]:
        """Return the numbers that the server gives the connections to the test's database."""

    @abstractmethod
    def kill(self, number: int) -> None:
        """End a connection, and wait for its end."""

    def test_changes_and_reads_take_turns_on_one_connection(self, store: Store) -> None:
        store.prepare()
        # The server takes its time to end those that were closed.
        eventually("one connection", lambda: len(self.connections()) == 1)
        before, seen = self.connections(), list[set[int]]()
        for number in range(1, 4):
            store.write({"A": str(number)}, before_commit=lambda: seen.append(self.connections()))
            assert stored(store) == {"A": str(number)}
        assert seen == [before] * 3

    def test_read_that_meets_a_change_waits_for_nothing(self, store: Store) -> None:
        store.prepare()
        seen = [self._read_within_a_change(store, number) for number in range(1, 4)]
        assert seen == [{}, {"A": "1"}, {"A": "2"}]
        eventually("two connections", lambda: len(self.connections()) == 2)

    def test_change_that_fails_leaves_no_transaction_behind(self, store: Store) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        store.prepare()
        store.write({"A": "1"})
        with pytest.raises(RevisionConflict):
            store.write({"A": "2"}, expected_revision=7)
        with self.locked():
            assert stored(store) == {"A": "1"}
        with pytest.raises(ZeroDivisionError):
            store.write({"A": "2"}, before_commit=fail)
        with self.locked():
            assert stored(store) == {"A": "1"}
        assert store.write({"A": "2"}) == 2

    @pytest.mark.parametrize("kept", [1, 2])
    def test_change_replaces_what_was_kept_and_killed(self, store: Store, kept: int) -> None:
        self._keep(store, kept)
        self._kill_all()
        assert store.write({"A": "2"}, expected_revision=1) == 2
        assert len(store.history()) == 2

    @pytest.mark.parametrize("kept", [1, 2])
    def test_read_replaces_what_was_kept_and_killed(self, store: Store, kept: int) -> None:
        self._keep(store, kept)
        known = store.read_since(0, "")
        self._kill_all()
        assert store.read_since(0, "") == known

    def _keep(self, store: Store, count: int) -> None:
        store.prepare()
        if count == 1:
            store.write({"A": "1"})
        else:
            self._read_within_a_change(store, 1)
        eventually("as many connections", lambda: len(self.connections()) == count)

    def _kill_all(self) -> None:
        for number in self.connections():
            self.kill(number)

    def _read_within_a_change(self, store: Store, value: int) -> dict[str, str]:
        """Change a setting, and return what another thread read just before the commit."""
        seen: list[dict[str, str]] = []

        def read() -> None:
            thread = threading.Thread(target=lambda: seen.append(stored(store)))
            thread.start()
            thread.join()

        store.write({"A": str(value)}, before_commit=read)
        return seen[0]


class FrozenContract(OnServer):
    """Nothing waits longer than its timeout for a server that stands still.

    Each test waits for timeouts, so it runs once for each driver, whatever the tables.
    """

    timeout_s = 1.0
    write_timeout_s = 1.0

    def test_server_that_stands_still_is_reported_within_the_bound(self, store: Store) -> None:
        store.prepare()
        revision = store.write({"A": "1"})
        epoch = store.read_since(0, "").epoch
        with self.frozen():
            # On the connection that is open, then on a new one.
            for call in (
                lambda: store.read_since(revision, epoch),
                lambda: store.read_since(revision, epoch),
                store.history,
                # As a worker does that starts now.
                store.prepare,
            ):
                with Stopwatch() as watch, raises(StoreUnavailable):
                    call()
                watch.assert_within(self.timeout_s)
        assert store.read_since(revision, epoch).revision == revision
        assert store.write({"A": "2"}) == revision + 1

    def test_writer_gives_up_within_its_bound_on_a_server_that_stands_still(
        self, store: Store
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        with self.frozen(), Stopwatch() as watch, raises(StoreUnavailable):
            store.write({"A": "2"})
        watch.assert_within(self.write_timeout_s)


class LockContract(FrozenContract):
    """Nothing waits longer than its timeout for a lock in a database, either."""

    def test_writer_gives_up_while_another_holds_the_row_of_the_revision(
        self, store: Store
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        with self.locked():
            with Stopwatch() as watch, raises(StoreUnavailable):
                store.write({"A": "2"})
            watch.assert_within(self.write_timeout_s)
            assert watch.elapsed_s > 0.8 * self.write_timeout_s
            # Reading goes on while it is held.
            assert stored(store) == {"A": "1"}
        assert store.write({"A": "3"}) == 2

    def test_writer_gives_up_when_the_server_stands_still_within_its_change(
        self, store: Store
    ) -> None:
        """No timeout of the server's own helps then, as it helps against another's lock."""
        store.prepare()
        store.write({"A": "1"})
        freeze = threading.Timer(0.3 * self.write_timeout_s, self.server.freeze)
        with self.locked():
            freeze.start()
            try:
                with Stopwatch() as watch, raises(StoreUnavailable):
                    store.write({"A": "2"})
                watch.assert_within(self.write_timeout_s)
            finally:
                freeze.join()
                self.server.thaw()
        assert store.write({"A": "3"}) == 2


class UserConfs(WaffleMixin, peewee.Model):
    """A user's own model."""

    key = peewee.CharField(unique=True)
    value = peewee.TextField()

    class Meta:
        table_name = "User Confs"


def make_model(
    engine: sa.Engine, *, collation: str | None = None, value: Any = sa.Text
) -> sa.Table:
    """Make the table of a user's own model, with quoting to do."""
    metadata = sa.MetaData()
    table = sa.Table(
        "User Confs",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(255, collation), unique=True, nullable=False),
        sa.Column("value", value, nullable=False),
    )
    metadata.create_all(engine)
    return table
