"""An import from Flask-WaffleConf is worked out whole before anything is written."""

from __future__ import annotations

import base64
import pickle
import pickletools
import sqlite3
import sys
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import ConfigurationError, StoreError
from uwsgi_waffle.legacy import (
    LegacyError,
    LegacyPlan,
    Verdict,
    decode_legacy,
    import_legacy,
    read_rows,
)
from uwsgi_waffle.settings.declare import declare

DECLARATIONS = declare(
    {
        "SITENAME": {"desc": "Name", "default": "Shop"},
        "LIMIT": {"desc": "Limit", "default": 10, "min": 1, "max": 1000},
        "RATE": {"desc": "Rate", "default": Decimal("1.5")},
        "SINCE": {"desc": "Since", "default": date(2016, 1, 1)},
        "TAGS": {"desc": "Words", "default": ["a"], "type": list[str]},
        "WORDS": {"desc": "Words", "default": {"a"}, "type": set[str]},
        "TOKEN": {"desc": "Token", "default": "hush", "secret": True},
    }
)


def legacy(value: object, protocol: int = 2) -> str:
    return base64.b64encode(pickle.dumps(value, protocol)).decode()


def plan(
    values: Mapping[str, object], stored: Mapping[str, str] | None = None, **options: Any
) -> LegacyPlan:
    rows = [(name, legacy(value)) for name, value in values.items()]
    return import_legacy(rows, DECLARATIONS, stored, **options)


def test_values_become_json() -> None:
    made = plan(
        {
            "SITENAME": "Café",
            "LIMIT": 20,
            "RATE": Decimal("2.50"),
            "SINCE": date(2020, 2, 29),
            "TAGS": ["x", "y"],
            "WORDS": {"b"},
            "TOKEN": "sesame",
        }
    )
    assert made.raws == {
        "SITENAME": '"Café"',
        "LIMIT": "20",
        "RATE": '"2.50"',
        "SINCE": '"2020-02-29"',
        "TAGS": '["x","y"]',
        "WORDS": '["b"]',
        "TOKEN": '"sesame"',
    }
    assert made.refused == {}
    assert {line.verdict for line in made.lines} == {Verdict.IMPORT}


def test_a_tuple_is_taken_for_a_list() -> None:
    assert plan({"TAGS": ("x", "y")}).raws == {"TAGS": '["x","y"]'}


def test_values_that_do_not_fit_are_refused_and_told_apart() -> None:
    made = plan({"SITENAME": 5, "LIMIT": 5000, "TAGS": ["x", 1], "RATE": Decimal(2)})
    assert made.refused == {
        "SITENAME": "it does not fit its declaration: it must be a string, got an int",
        "LIMIT": "it does not fit its declaration: it must be at most 1000, got 5000",
        "TAGS": "it does not fit its declaration: [1]: it must be a string, got an int",
    }
    assert made.raws == {"RATE": '"2"'}


def test_the_reason_does_not_show_a_secret() -> None:
    made = plan({"TOKEN": 987654321})
    assert "987654321" not in made.refused["TOKEN"]


def test_rows_that_can_not_be_read_are_refused() -> None:
    rows = [
        ("SITENAME", "not base64"),
        ("LIMIT", base64.b64encode(b"cos\nsystem\n(U\x01xtR.").decode()),
        ("RATE", None),
        ("TAGS", 5),
        ("TOKEN", ""),
        ("SINCE", b"\xff"),
    ]
    assert import_legacy(rows, DECLARATIONS).refused == {
        "SITENAME": "it is not base64",
        "LIMIT": "it refers to os.system, which is not a plain type",
        "RATE": "it is not a string",
        "TAGS": "it is not a string",
        "TOKEN": "it is empty",
        "SINCE": "it is not base64",
    }


def test_rows_of_undeclared_names_are_told_and_not_read() -> None:
    rows: list[tuple[object, object]] = [("OLD", "not base64"), (None, legacy(1)), (5, legacy(1))]
    made = import_legacy(rows, DECLARATIONS)
    assert made.named(Verdict.UNDECLARED) == ["OLD", "None", "5"]
    assert made.raws == {}
    assert made.refused == {}


def test_two_rows_of_one_name_are_refused() -> None:
    rows = [("LIMIT", legacy(20)), ("LIMIT", legacy(30))]
    assert import_legacy(rows, DECLARATIONS).refused == {"LIMIT": "there are 2 rows of this name"}


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_binary_columns_are_read(wrap: Any) -> None:
    rows = [(wrap(b"LIMIT"), wrap(legacy(20).encode()))]
    assert import_legacy(rows, DECLARATIONS).raws == {"LIMIT": "20"}


def test_a_row_at_the_default_is_not_stored() -> None:
    # The ancestor wrote every default as soon as it was read.
    made = plan({"LIMIT": 10, "WORDS": {"a"}})
    assert made.raws == {}
    assert made.named(Verdict.UNCHANGED) == ["LIMIT", "WORDS"]


def test_rows_in_the_stores_own_table_are_rewritten() -> None:
    values: dict[str, object] = {"SITENAME": "New", "LIMIT": 10}
    stored = {name: legacy(value) for name, value in values.items()}
    made = plan(values, stored)
    assert made.raws == {"SITENAME": '"New"', "LIMIT": None}
    assert made.named(Verdict.DEFAULT) == ["LIMIT"]


def test_a_second_import_changes_nothing() -> None:
    stored = {"SITENAME": '"New"', "WORDS": '["b","c"]'}
    again = import_legacy(stored.items(), DECLARATIONS, stored)
    assert again.named(Verdict.UNCHANGED) == ["SITENAME", "WORDS"]
    elsewhere = plan({"SITENAME": "New", "WORDS": {"c", "b"}}, stored)
    assert elsewhere.named(Verdict.UNCHANGED) == ["SITENAME", "WORDS"]
    assert again.raws == elsewhere.raws == {}


def test_what_was_changed_since_is_kept_unless_it_is_told_otherwise() -> None:
    stored = {"SITENAME": '"Newer"', "LIMIT": "20"}
    values: dict[str, object] = {"SITENAME": "Old", "LIMIT": 10}
    kept = plan(values, stored)
    assert kept.raws == {}
    assert kept.named(Verdict.KEPT) == ["SITENAME", "LIMIT"]
    assert kept.lines[0].reason == "it was changed since; --overwrite takes the row"
    assert plan(values, stored, overwrite=True).raws == {"SITENAME": '"Old"', "LIMIT": None}


def test_a_stored_value_that_does_not_fit_is_no_reason_to_overwrite_it() -> None:
    stored = {"LIMIT": "5000"}
    assert plan({"LIMIT": 20}, stored).named(Verdict.KEPT) == ["LIMIT"]
    assert plan({"LIMIT": 20}, stored, overwrite=True).raws == {"LIMIT": "20"}


def test_no_base64_of_a_pickle_is_json() -> None:
    # Which is how a row that was not moved yet is told from one that was. Of JSON texts, only
    # numbers, null and true have nothing but characters of base64, and a multiple of four.
    for opcode in pickletools.opcodes:
        text = base64.b64encode(opcode.code.encode("latin-1") + b"...").decode()
        assert not text[0].isdigit(), opcode.name
    for text in ("null", "true"):
        with pytest.raises(LegacyError, match="it can't be read"):
            decode_legacy(text)


class TestReadRows:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "old app.db"
        connection = sqlite3.connect(path)
        connection.execute('CREATE TABLE "the `confs`" (name TEXT, "the value" TEXT)')
        connection.execute('INSERT INTO "the `confs`" VALUES (?, ?), (?, ?)', ("B", "2", "A", "1"))
        connection.commit()
        connection.close()
        return path

    @pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
    def test_rows_come_in_order(self, path: Path, scheme: str) -> None:
        rows = read_rows(
            f"{scheme}:///{path}", table="the `confs`", key_column="name", value_column="the value"
        )
        assert rows == [("A", "1"), ("B", "2")]

    @pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
    def test_a_missing_table_or_column_is_told(self, path: Path, scheme: str) -> None:
        with pytest.raises(StoreError, match="no such table"):
            read_rows(f"{scheme}:///{path}", table="confs")
        with pytest.raises(StoreError, match="no such column"):
            read_rows(f"{scheme}:///{path}", table="the `confs`", value_column="val")

    def test_a_missing_file_is_told_and_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"can't be read from .*none\.db: unable to open"):
            read_rows(f"sqlite:///{tmp_path}/none.db", table="confs")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_is_relative_to_the_working_directory(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(path.parent)
        with pytest.raises(StoreError, match="no such table"):
            read_rows("sqlite:///old%20app.db", table="confs")

    def test_a_schema_is_told_from_the_table(self, tmp_path: Path) -> None:
        path = tmp_path / "app.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE confs (key TEXT, value TEXT)")
        connection.close()
        for scheme in ("sqlite", "sqlite+pysqlite"):
            assert read_rows(f"{scheme}:///{path}", table="main.confs") == []

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("nonsense", "the URL is none that SQLAlchemy understands"),
            ("nonsense://u:sesame@host/db", "the URL is none that SQLAlchemy understands"),
            ("mysql+nonsense://u:sesame@host/db", "the URL is none that SQLAlchemy understands"),
            ("oracle+oracledb://u:sesame@host/db", "the driver of this URL is not installed"),
        ],
    )
    def test_a_bad_url_is_told_without_its_password(self, url: str, reason: str) -> None:
        with pytest.raises(ConfigurationError, match=reason) as caught:
            read_rows(url, table="confs")
        assert "sesame" not in str(caught.value)

    def test_a_missing_sqlalchemy_is_told(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'uwsgi-waffle\[sqlalchemy\]'"):
            read_rows("postgresql+psycopg://u@localhost/db", table="confs")
        # An SQLite file needs none.
        name, value = "name", "the value"
        url = f"sqlite:///{path}"
        assert read_rows(url, table="the `confs`", key_column=name, value_column=value)

    def test_an_unreachable_server_is_told_without_its_password(self) -> None:
        with pytest.raises(StoreError, match="the rows can't be read") as caught:
            read_rows("postgresql+psycopg://u:sesame@localhost:1/db", table="confs")
        assert "sesame" not in str(caught.value)
