"""Every type has a control that shows its value and takes another."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest

from uwsgi_waffle.admin.drafts import key_of
from uwsgi_waffle.admin.texts import read, write
from uwsgi_waffle.admin.widgets import Widget, make_widget
from uwsgi_waffle.settings.declarations import Declaration
from uwsgi_waffle.settings.declare import declare

from ..support.forms import browse
from ..support.rig import Worker
from .test_views import Admin


class Tone(enum.Enum):
    INFO = "info"
    WARNING = "warning"


class Box(msgspec.Struct):
    width: int = 1


class Case(NamedTuple):
    """A declared type, the control it has, the text in it, and what somebody types."""

    default: Any
    type: Any
    kind: str
    shown: str
    typed: str
    value: Any


UTC = timezone.utc
CASES = {
    "bool": Case(False, bool, "switch", "false", "true", True),
    "int": Case(5, int, "number", "5", " 7 ", 7),
    "float": Case(0.5, float, "number", "0.5", "1e3", 1000.0),
    "decimal": Case(Decimal("1.50"), Decimal, "number", "1.50", "2.25", Decimal("2.25")),
    "literal": Case("a", Literal["a", "b"], "select", '"a"', '"b"', "b"),
    "numbers": Case(1, Literal[1, "1"], "select", "1", '"1"', "1"),
    "enum": Case(Tone.INFO, Tone, "select", '"info"', '"warning"', Tone.WARNING),
    "date": Case(date(2026, 5, 31), date, "date", "2026-05-31", "2026-06-01", date(2026, 6, 1)),
    "datetime": Case(
        datetime(2026, 5, 31, 14, 30),
        datetime,
        "datetime-local",
        "2026-05-31T14:30",
        "2026-06-01T08:15:30",
        datetime(2026, 6, 1, 8, 15, 30),
    ),
    "aware": Case(
        datetime(2026, 5, 31, 14, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime,
        "datetime-local",
        "2026-05-31T12:30",
        "2026-06-01T08:15",
        datetime(2026, 6, 1, 8, 15, tzinfo=UTC),
    ),
    "aware by declaration": Case(
        None,
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        "datetime-local",
        "",
        "2026-06-01T08:15Z",
        datetime(2026, 6, 1, 8, 15, tzinfo=UTC),
    ),
    "end of time": Case(
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5))),
        datetime,
        "text",
        "9999-12-31T23:59-05:00",
        "2026-06-01T08:15",
        datetime(2026, 6, 1, 8, 15, tzinfo=UTC),
    ),
    "microseconds": Case(
        datetime(2026, 5, 31, 14, 30, 0, 1),
        datetime,
        "text",
        "2026-05-31T14:30:00.000001",
        "2026-06-01T08:15",
        datetime(2026, 6, 1, 8, 15),
    ),
    "milliseconds": Case(time(14, 30, 0, 5000), time, "time", "14:30:00.005", "08:15", time(8, 15)),
    "time": Case(time(14, 30), time, "time", "14:30", "08:15:30", time(8, 15, 30)),
    "timedelta": Case(
        timedelta(hours=1), timedelta, "duration", "1 h", "1 h 30 min", timedelta(minutes=90)
    ),
    "uuid": Case(UUID(int=1), UUID, "text", str(UUID(int=1)), str(UUID(int=2)), UUID(int=2)),
    "bytes": Case(b"abc", bytes, "text", "YWJj", "eHl6", b"xyz"),
    "str": Case("a", str, "text", "a", " b ", " b "),
    "control": Case("a\0b", str, "json", '"a\\u0000b"', '"c"', "c"),
    "lines": Case("a\nb", str, "textarea", "a\nb", "a\r\nc", "a\nc"),
    "long": Case("", Annotated[str, msgspec.Meta(max_length=500)], "textarea", "", "x", "x"),
    "list": Case([1], list[int], "lines", "1", "1\r\n\r\n 2", [1, 2]),
    "empty item": Case(["a", ""], list[str], "json", '[\n  "a",\n  ""\n]', '["b"]', ["b"]),
    "nested": Case([[1]], list[list[int]], "json", "[\n  [\n    1\n  ]\n]", "[]", []),
    "boxes": Case(["a"], list[Literal["a", "b"]], "boxes", '["a"]', '["b","a"]', ["a", "b"]),
    "boxes of an enum": Case(
        {Tone.INFO}, set[Tone], "boxes", '["info"]', '["warning"]', {Tone.WARNING}
    ),
    "boxes that are ticked twice": Case(
        ["a", "a"], list[Literal["a"]], "json", '[\n  "a",\n  "a"\n]', '["a"]', ["a"]
    ),
    "rows": Case(
        {"b": 1, "a": 2},
        dict[str, int],
        "rows",
        '[["b", "1"], ["a", "2"]]',
        '[["c", " 3 "]]',
        {"c": 3},
    ),
    "rows of durations": Case(
        {"x": timedelta(minutes=1)},
        dict[str, timedelta],
        "rows",
        '[["x", "1 min"]]',
        '[["x", "2 min"], ["", ""]]',
        {"x": timedelta(minutes=2)},
    ),
    "rows of several lines": Case(
        {"a": "b\nc"}, dict[str, str], "json", '{\n  "a": "b\\nc"\n}', "{}", {}
    ),
    "no list": Case(None, list[str] | None, "lines", "", "a", ["a"]),
    "no struct": Case(None, Box | None, "struct", "", '{"width": "3"}', Box(3)),
    "set": Case({"b", "a"}, set[str], "lines", "a\nb", "c", {"c"}),
    "words of a set": Case(
        {"WELCOME", "SALE", "SPRING"}, set[str], "lines", "SALE\nSPRING\nWELCOME", "c", {"c"}
    ),
    "numbers and words of a set": Case(
        {"mo", 1}, set[Literal["mo", 1]], "boxes", '["mo",1]', "[1]", {1}
    ),
    "boxes of a set": Case(
        {"mo", "fr"}, set[Literal["mo", "fr"]], "boxes", '["mo","fr"]', '["fr"]', {"fr"}
    ),
    "numbers of a set": Case({10, 9}, set[int], "lines", "9\n10", "11", {11}),
    "struct": Case(Box(), Box, "struct", '{"width": "1"}', '{"width": " 2"}', Box(2)),
    "union": Case(1, int | str, "json", "1", '"1"', "1"),
    "any": Case({"a": None}, dict, "json", '{\n  "a": null\n}', "{}", {}),
    "no int": Case(None, int | None, "number", "", "5", 5),
    "int or none": Case(5, int | None, "number", "5", "", None),
    "no bool": Case(None, bool | None, "select", "null", "false", False),
    "no literal": Case("a", Literal["a"] | None, "select", '"a"', "null", None),
    "no date": Case(date(2026, 5, 31), date | None, "date", "2026-05-31", " ", None),
    "no str": Case(None, str | None, "text", "", "", ""),
}


def make(case: Case, **more: Any) -> tuple[Declaration, Widget]:
    spec = {"desc": "d", "default": case.default, "type": case.type, **more}
    declaration = declare({"X": spec})["X"]
    return declaration, make_widget(declaration, case.default)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_control_shows_the_value_and_takes_another(case: Case) -> None:
    declaration, widget = make(case)
    assert widget.kind == case.kind
    assert write(widget, case.default) == case.shown
    assert declaration.decode(read(widget, declaration, case.typed)) == case.value


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_shown_is_read_as_the_same_value(case: Case) -> None:
    declaration, widget = make(case)
    null = widget.null_box and case.default is None
    raw = read(widget, declaration, case.shown, null=null)
    assert declaration.decode(raw) == case.default


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_secret_tells_nothing_and_takes_a_value(case: Case) -> None:
    declaration, widget = make(case, secret=True)
    assert widget.kind == "password"
    assert not widget.attributes
    assert not widget.choices
    assert write(widget, case.default) == ""
    # What is typed is of the type alone: no quotes around a choice, and no zone by itself.
    skipped = (
        case.kind in ("select", "json", "textarea", "lines", "boxes", "rows", "struct")
        or widget.utc != make(case)[1].utc
    )
    if not skipped and case.value is not None:
        assert declaration.decode(read(widget, declaration, case.typed)) == case.value


@pytest.fixture
def everything(make_worker: Callable[..., Worker]) -> Admin:
    """The page of an app that declares every case."""
    confs = {
        name: {"desc": "d", "default": case.default, "type": case.type}
        for name, case in CASES.items()
    }
    worker = make_worker(confs=confs, SECRET_KEY="k")
    worker.app.register_blueprint(worker.waffle.admin_blueprint(lambda: True))
    return Admin(worker, "")


def test_page_without_a_touch_changes_nothing(everything: Admin) -> None:
    assert "Nothing was changed" in everything.open().submit("/preview").text


def test_page_saves_what_is_typed(everything: Admin) -> None:
    page = everything.open()
    fields = page.form("/preview")
    for name, case in CASES.items():
        key = key_of(name)
        for field in [f for f in fields if f[0] == "v" and f.partition("-")[2] == key]:
            del fields[field]
        fields[f"v-{key}"] = [case.typed]
        fields.pop(f"n-{key}", None)
    page = browse(everything.client, "/preview", fields, method="post")
    page.submit("/save")
    assert everything.conf == {name: case.value for name, case in CASES.items()}


def test_no_text_is_another_thing_than_an_empty_one() -> None:
    declaration, widget = make(Case("a", str | None, "text", "a", "", ""))
    assert widget.null_box
    assert declaration.decode(read(widget, declaration, "", null=False)) == ""
    assert declaration.decode(read(widget, declaration, "a", null=True)) is None


@pytest.mark.parametrize(
    ("typed", "case", "problem"),
    [
        ("x", CASES["int"], "it must be a whole number, got x"),
        ("", CASES["int"], "it must not be empty"),
        ("tomorrow", CASES["date"], "it is not a date such as 2026-05-31"),
        ("25:00", CASES["time"], "it is not a time such as 14:30"),
        ("soon", CASES["datetime"], "it is not a date and time such as"),
        ("{", CASES["any"], "it is not JSON: Expecting property name"),
        ("{", CASES["struct"], "not what the form's fields make"),
        ('[["a", "x"]]', CASES["rows"], "a: it must be a whole number, got x"),
        ('[["a", "1"], ["a", "2"]]', CASES["rows"], "a is there twice: give row 2"),
        ('[["", "1"]]', CASES["rows"], "row 1 has a value, but no name"),
        ("1\nx", CASES["list"], "line 2: it must be a whole number, got x"),
        ('["c"]', CASES["boxes"], "is not one of its choices"),
        ('{"width": "x"}', CASES["struct"], "width: it must be a whole number, got x"),
        ("[" * 100_000, CASES["nested"], "it is nested too deeply|malformed|not JSON"),
        ('"c"', CASES["literal"], 'it must be one of "a", "b", got "c"'),
        ("maybe", CASES["bool"], "it is not JSON"),
    ],
)
def test_unfit_text_is_refused_in_words(typed: str, case: Case, problem: str) -> None:
    declaration, widget = make(case)
    with pytest.raises(ValueError, match=problem):
        read(widget, declaration, typed)


@pytest.mark.parametrize(
    ("case", "more", "attributes"),
    [
        (CASES["int"], {"min": 1, "max": 9}, {"step": "1", "data-min": "1", "data-max": "9"}),
        (CASES["float"], {"max": 1.5}, {"step": "any", "data-max": "1.5"}),
        (
            Case(5, Annotated[int, msgspec.Meta(ge=2, le=8)], "number", "", "", ""),
            {},
            {"step": "1", "data-min": "2", "data-max": "8"},
        ),
        (CASES["date"], {"min": date(2026, 1, 1)}, {"data-min": "2026-01-01"}),
        (
            CASES["aware"],
            {"max": datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
            {"step": "60", "data-max": "2027-01-01T00:00"},
        ),
        (
            Case("a", Annotated[str, msgspec.Meta(min_length=1, max_length=9)], "", "", "", ""),
            {},
            {"data-shortest": "1", "data-longest": "9"},
        ),
    ],
)
def test_bounds_reach_the_control(
    case: Case, more: dict[str, Any], attributes: dict[str, str]
) -> None:
    assert make(case, **more)[1].attributes == attributes


@pytest.mark.parametrize(
    ("lengths", "hint"),
    [
        ({"min_length": 1, "max_length": 9}, "1 to 9 characters"),
        ({"min_length": 1}, "at least 1 character"),
        ({"max_length": 1}, "at most 1 character"),
        ({}, ""),
    ],
)
def test_text_says_how_long_it_may_be(lengths: dict[str, Any], hint: str) -> None:
    assert make(Case("a", Annotated[str, msgspec.Meta(**lengths)], "", "", "", ""))[1].hint == hint


@pytest.mark.parametrize(
    ("clock", "step"),
    [
        (time(8), "60"),
        (time(8, 0, 15), "1"),
        (time(8, 0, 0, 1000), "any"),
        (datetime(2026, 5, 31, 12), "60"),
        (datetime(2026, 5, 31, 12, 0, 1), "1"),
    ],
)
def test_clock_asks_for_seconds_only_where_it_has_some(clock: Any, step: str) -> None:
    declaration = declare({"X": {"desc": "d", "default": clock}})["X"]
    assert make_widget(declaration, clock).attributes["step"] == step
    bounded = declare(
        {"X": {"desc": "d", "default": clock.replace(second=0, microsecond=0), "max": clock}}
    )["X"]
    assert make_widget(bounded, bounded.default).attributes["step"] == step


def test_choices_are_offered_and_the_served_value_is_one_of_them() -> None:
    declaration, _ = make(CASES["int"], choices=[5, 10])
    assert [c.label for c in make_widget(declaration, 10).choices] == ["5", "10"]
    # An override in a test, say: the browser must not pick another by itself.
    assert [c.label for c in make_widget(declaration, 7).choices] == ["7", "5", "10"]


def test_text_that_begins_with_a_line_end_survives(
    make_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = make_worker(confs={"X": {"desc": "d", "default": "\n\na\r\nb\n"}}, SECRET_KEY="k")
    worker.app.register_blueprint(worker.waffle.admin_blueprint(lambda: True))
    assert "Nothing was changed" in Admin(worker, "").open().submit("/preview").text
