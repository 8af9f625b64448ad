"""Flask-Migrate itself neither sees nor drops the tables of the SQLAlchemy store on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.migrating import check_migrations

from .support.postgres_server import PostgresServer


# Each of a dozen commands starts an interpreter.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_migrations_leave_our_tables_alone_on_postgres(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with postgres.database() as name:
        check_migrations(postgres.url("postgresql+psycopg", name), tmp_path)
