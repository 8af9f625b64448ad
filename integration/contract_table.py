"""The contract table: ``python -m integration.contract_table`` runs the tests for it.

Prints a table of cases and stores; a tick is a test that passed in this very run, one that was
skipped says so. With the JUnit reports of a run as arguments it prints that one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from uwsgi_waffle.testing import StoreContract

FILES = (
    "tests/stores/test_sqlite_store.py",
    "tests/stores/test_sqlalchemy_store.py",
    "tests/stores/test_peewee_store.py",
    "integration/test_store_postgres.py",
    "integration/test_store_mysql.py",
    "integration/test_store_redis.py",
)
_UNIT, _REAL = "tests.stores.test_", "integration.test_store_"
#: each test class that runs the contract, and its heading
STORES = {
    f"{_UNIT}sqlite_store.TestSqliteStore": "SQLite, built in",
    f"{_UNIT}sqlalchemy_store.TestOwnTables": "SQLAlchemy: SQLite",
    f"{_UNIT}sqlalchemy_store.TestOwnModel": "… own model",
    f"{_REAL}postgres.TestAlchemyOnPostgres": "SQLAlchemy: PostgreSQL",
    f"{_REAL}postgres.TestAlchemyModelOnPostgres": "… own model",
    f"{_REAL}mysql.TestAlchemyOnMysql": "SQLAlchemy: MariaDB",
    f"{_REAL}mysql.TestAlchemyModelOnMysql": "… own model",
    f"{_UNIT}peewee_store.TestOwnTables": "peewee: SQLite",
    f"{_UNIT}peewee_store.TestOwnModel": "… own model",
    f"{_REAL}postgres.TestPeeweeOnPostgres": "peewee: PostgreSQL",
    f"{_REAL}postgres.TestPeeweeModelOnPostgres": "… own model",
    f"{_REAL}mysql.TestPeeweeOnMysql": "peewee: MariaDB",
    f"{_REAL}mysql.TestPeeweeModelOnMysql": "… own model",
    f"{_REAL}redis.TestRedis": "Redis",
}
MARKS = {"passed": "✓", "skipped": "skipped", "failed": "✗"}


def main() -> None:
    """Run the contract on every store, and print the table."""
    outcomes: dict[tuple[str, str], str] = {}
    for report in map(Path, sys.argv[1:]):
        outcomes |= _outcomes(report)
    if not outcomes:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-k", "Test"]
            command.append(f"--junitxml={report}")
            subprocess.run([*command, *FILES], check=False, stdout=subprocess.DEVNULL)
            outcomes = _outcomes(report)
    cases = [name for name in dir(StoreContract) if name.startswith("test_")]
    print(f"| case | {' | '.join(STORES.values())} |")
    print(f"| --- | {' | '.join([':-:'] * len(STORES))} |")
    for case in cases:
        marks = [MARKS[outcomes.get((store, case), "skipped")] for store in STORES]
        print(f"| {case.removeprefix('test_').replace('_', ' ')} | {' | '.join(marks)} |")


def _outcomes(report: Path) -> dict[tuple[str, str], str]:
    outcomes: dict[tuple[str, str], str] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        store = case.get("classname", "")
        name = case.get("name", "")
        if not hasattr(StoreContract, name):
            continue
        kinds = {child.tag for child in case}
        failed = kinds & {"failure", "error"}
        outcome = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
        outcomes[store, name] = outcome
    return outcomes


if __name__ == "__main__":
    main()
