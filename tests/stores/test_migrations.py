"""Flask-Migrate itself neither sees nor drops the tables of the SQLAlchemy store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.migrating import check_migrations


# Each of a dozen commands starts an interpreter.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_migrations_leave_our_tables_alone_on_sqlite(tmp_path: Path) -> None:
    check_migrations(f"sqlite:///{tmp_path}/site.db", tmp_path)
