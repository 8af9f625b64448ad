"""Declarations: what WAFFLE_CONFS may say, and which values fit."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import msgspec
import pytest

from uwsgi_waffle import ConfigurationError, InvalidValueError, UnknownSettingError
from uwsgi_waffle.settings.declarations import Declaration
from uwsgi_waffle.settings.declare import declare


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Limits:
    per_minute: int
    per_hour: int = 100


class Banner(msgspec.Struct):
    text: str
    since: datetime


NOON = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)

# type, two values of it, one that is none
TYPED: list[tuple[Any, Any, Any, object]] = [
    (bool, True, False, 1),
    (int, 1, -(2**60), "1"),
    (int, 1, 2, 1.5),
    (int, 1, 2, True),
    (float, 1.5, 1e300, "1.5"),
    (str, "", "Grüße, 世界\n\0", 1),
    (list, [], [1, "two", None], {}),
    (list[int], [], [1, 2], ["1"]),
    (dict, {}, {"a": [1]}, []),
    (dict[str, int], {}, {"a": 1}, {"a": "1"}),
    (tuple[int, str], (1, "a"), (2, "b"), [1]),
    (datetime, NOON, NOON.replace(microsecond=1), "yesterday"),
    (date, date(2026, 7, 1), date(1, 1, 1), "2026-13-01"),
    (timedelta, timedelta(seconds=90), timedelta(days=-1, microseconds=1), "soon"),
    (Decimal, Decimal("9.90"), Decimal("1E-20"), "nine"),
    (UUID, UUID(int=1), UUID(int=2**127), "1"),
    (Color, Color.RED, Color.BLUE, "green"),
    (Level, Level.LOW, Level.HIGH, 3),
    (Literal["a", "b"], "a", "b", "c"),
    (Optional[int], None, 3, "3"),  # noqa: UP045 -- as a user would write it
    (int | None, None, 3, "3"),
    (Annotated[int, msgspec.Meta(ge=0, multiple_of=5)], 0, 15, 7),
    (Annotated[str, msgspec.Meta(pattern="^[a-z]+$", max_length=5)], "abc", "abcde", "abcdef"),
    (Limits, Limits(1), Limits(2, 3), {"per_minute": "1"}),
    (Banner, Banner("a", NOON), Banner("b", NOON), {"text": "a"}),
    (list[Limits], [], [Limits(1), Limits(2)], [3]),
]


def make(**spec: Any) -> Declaration:
    return declare({"X": {"desc": "a setting", **spec}})["X"]


@pytest.mark.parametrize(("type_", "default", "other", "unfit"), TYPED)
def test_value_of_each_type_comes_back_from_raw_text_as_it_was(
    type_: Any, default: Any, other: Any, unfit: object
) -> None:
    declaration = make(type=type_, default=default)
    for value in (default, other):
        raw = declaration.encode(value)
        json.loads(raw)
        back = declaration.decode(raw)
        assert back == value
        assert type(back) is type(value)
    assert declaration.default == default


@pytest.mark.parametrize(("type_", "default", "other", "unfit"), TYPED)
def test_value_of_another_type_is_refused(
    type_: Any, default: Any, other: Any, unfit: object
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make(type=type_, default=default).encode(unfit)


@pytest.mark.parametrize(("type_", "default", "other", "unfit"), TYPED)
def test_json_that_fits_another_type_is_refused(
    type_: Any, default: Any, other: Any, unfit: object
) -> None:
    declaration = make(type=type_, default=default)
    with pytest.raises(ValueError, match=r"\w"):
        declaration.decode(msgspec.json.encode(unfit).decode())


@pytest.mark.parametrize(
    "default",
    [
        *(True, 3, 1.5, "a", [1], {"a": 1}, NOON, date(2026, 1, 1), timedelta(1)),
        *(Decimal(1), UUID(int=1), Color.RED, Limits(1), Banner("a", NOON)),
    ],
)
def test_type_is_inferred_from_the_default(default: object) -> None:
    assert make(default=default).type is type(default)
    assert make(default=default).default == default


def test_default_is_a_new_object_each_time() -> None:
    declaration = make(default=[1])
    declaration.default.append(2)
    assert declaration.default == [1]


def test_bool_is_not_an_int_nor_the_other_way_round() -> None:
    with pytest.raises(ValueError, match="it must be true or false, got an int"):
        make(default=True).encode(1)
    with pytest.raises(ValueError, match="it must be an int, got a bool"):
        make(default=1).encode(True)


def test_int_is_taken_for_a_float() -> None:
    assert make(default=1.5).encode(2) == "2.0"


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        ({"default": 5, "min": 1, "max": 9}, [1, 9], [0, 10]),
        ({"default": 0, "min": 0}, [0, 10**9], [-1]),
        ({"default": 0.5, "max": 1}, [1.0], [1.01]),
        ({"default": Decimal(1), "min": Decimal(0)}, [Decimal(0)], [Decimal("-0.01")]),
        ({"default": date(2026, 1, 2), "min": date(2026, 1, 1)}, [], [date(2025, 12, 31)]),
        ({"default": NOON, "max": NOON}, [NOON - timedelta(1)], [NOON + timedelta(1)]),
        ({"default": timedelta(1), "min": timedelta(0)}, [timedelta(0)], [timedelta(-1)]),
        ({"default": None, "type": int | None, "min": 1}, [None, 1], [0]),
        ({"default": "a", "choices": ["a", "b"]}, ["b"], ["c", ""]),
        ({"default": 1, "choices": {1, 2}}, [2], [3]),
        ({"default": Color.RED, "choices": (Color.RED,)}, [Color.RED], [Color.BLUE]),
    ],
)
def test_min_max_and_choices_hold_for_new_and_for_stored_values(
    spec: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    declaration = make(**spec)
    for value in good:
        assert declaration.decode(declaration.encode(value)) == value
    for value in bad:
        with pytest.raises(ValueError, match="it must be"):
            declaration.encode(value)
        with pytest.raises(ValueError, match="it must be"):
            declaration.decode(msgspec.json.encode(value).decode())


def refuse_odd(value: int) -> None:
    if value % 2:
        raise ValueError("odd numbers bring bad luck")


def test_validate_refuses_by_an_exception_whose_text_is_shown() -> None:
    declaration = make(default=2, validate=refuse_odd)
    assert declaration.encode(4) == "4"
    with pytest.raises(ValueError, match="odd numbers bring bad luck"):
        declaration.encode(3)


def test_validate_refuses_by_false_but_not_by_none() -> None:
    assert make(default=2, validate=lambda value: None).encode(3) == "3"
    with pytest.raises(ValueError, match="validate"):
        make(default=2, validate=lambda value: value == 2).encode(3)


def test_validate_gets_the_typed_value() -> None:
    seen: list[object] = []
    declaration = make(default=NOON, validate=seen.append)
    declaration.encode("2026-07-02T12:00:00Z")
    assert all(isinstance(value, datetime) for value in seen)


class Cancelled(BaseException):
    """As gevent.Timeout and asyncio.CancelledError are."""


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit, Cancelled]
)
def test_fault_in_validate_refuses_the_value(error: type[BaseException]) -> None:
    def broken(value: int) -> None:
        if value:
            raise error

    declaration = make(default=0, validate=broken)
    with pytest.raises(ValueError, match=error.__name__):
        declaration.encode(1)
    with pytest.raises(ValueError, match=error.__name__):
        declaration.decode("1")


def test_exit_within_a_declared_class_refuses_the_value() -> None:
    @dataclass
    class Limits:
        most: int = 0

        def __post_init__(self) -> None:
            if self.most:
                raise SystemExit("too many")

    declaration = make(type=Limits, default=Limits())
    with pytest.raises(ValueError, match="too many"):
        declaration.decode('{"most": 1}')


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("X", {"default": 1}, "'desc' is missing"),
        ("X", {"desc": "d"}, "'default' is missing"),
        ("X", {"desc": 1, "default": 1}, "'desc' must be a string"),
        ("X", {"desc": "d", "default": 1, "defualt": 2}, "unknown key 'defualt'.*default"),
        ("X", {"desc": "d", "default": None}, "needs a type"),
        ("X", {"desc": "d", "default": "1", "type": int}, "default does not fit.*int"),
        ("X", {"desc": "d", "default": 0, "min": 1}, "default does not fit.*at least 1"),
        ("X", {"desc": "d", "default": 2, "max": 1}, "default does not fit.*at most 1"),
        ("X", {"desc": "d", "default": 1, "min": 2, "max": 1}, "'min' 2 is greater"),
        ("X", {"desc": "d", "default": 1, "min": 1, "max": date.max}, "can't be compared"),
        ("X", {"desc": "d", "default": 1, "min": "0"}, "'min' must be a number"),
        ("X", {"desc": "d", "default": 1, "max": True}, "'max' must be a number"),
        ("X", {"desc": "d", "default": 1, "min": float("nan")}, "'min' must be a number"),
        ("X", {"desc": "d", "default": "a", "max": 5}, "can't be compared.*max_length"),
        ("X", {"desc": "d", "default": 1, "choices": "123"}, "'choices' must be a list"),
        ("X", {"desc": "d", "default": 1, "choices": 3}, "'choices' must be a list"),
        ("X", {"desc": "d", "default": 3, "choices": [1]}, "default does not fit.*one of"),
        ("X", {"desc": "d", "default": 1, "choices": [1, "2"]}, "choice '2' does not fit"),
        ("X", {"desc": "d", "default": 1, "validate": "odd"}, "'validate' must be a callable"),
        ("X", {"desc": "d", "default": 1, "validate": lambda v: False}, "validate function"),
        ("X", {"desc": "d", "default": 1, "secret": "yes"}, "'secret' must be True or False"),
        ("X", {"desc": "d", "default": 1, "group": 7}, "'group' must be a string"),
        ("X", {"desc": "d", "default": 1, "type": "int"}, "can't be read from JSON"),
        ("X", {"desc": "d", "default": 1j}, "complex"),
        ("X", {"desc": "d", "default": object()}, "object"),
        ("X", {"desc": "d", "default": float("nan")}, "default does not fit"),
        ("X", ("d", 1), "a declaration must be a dict"),
        ("WAFFLE_X", {"desc": "d", "default": 1}, "WAFFLE_ can't be settings"),
        ("", {"desc": "d", "default": 1}, "1 to 255 characters"),
        ("X" * 256, {"desc": "d", "default": 1}, "1 to 255 characters"),
        (7, {"desc": "d", "default": 1}, "name must be a string"),
        ("half \ud83d", {"desc": "d", "default": 1}, "that UTF-8 can write, without a NUL"),
        ("A\0B", {"desc": "d", "default": 1}, "that UTF-8 can write, without a NUL"),
        ("A ", {"desc": "d", "default": 1}, "must not begin or end with a space"),
        ("\tA", {"desc": "d", "default": 1}, "must not begin or end with a space"),
    ],
)
def test_malformed_declaration_names_the_setting_and_the_fix(
    name: object, spec: object, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        declare({name: spec})
    assert f"WAFFLE_CONFS[{name!r}]" in str(caught.value)


def test_every_malformed_declaration_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare({"A": {"desc": "d"}, "B": {"desc": "d", "default": 1}, "C": 3})
    assert "['A']" in str(caught.value)
    assert "['B']" not in str(caught.value)
    assert "['C']" in str(caught.value)


@pytest.mark.parametrize("confs", [None, 3, "X", [("X", {})]])
def test_confs_that_are_no_mapping_are_refused(confs: object) -> None:
    with pytest.raises(ConfigurationError, match="WAFFLE_CONFS must map"):
        declare(confs)


def test_declarations_keep_their_order() -> None:
    confs = {name: {"desc": name, "default": 1} for name in "ZAMB"}
    assert list(declare(confs)) == list("ZAMB")


def test_unknown_settings_are_named_with_the_nearest_one() -> None:
    declarations = declare({"SITENAME": {"desc": "d", "default": "a"}})
    with pytest.raises(UnknownSettingError) as caught:
        declarations.encode({"SITENAM": "x", "ZZZ": 1, "SITENAME": 3})
    assert caught.value.problems["SITENAM"].endswith("did you mean SITENAME?")
    assert "declare it in WAFFLE_CONFS" in caught.value.problems["ZZZ"]
    assert set(caught.value.problems) == {"SITENAM", "ZZZ", "SITENAME"}


def test_every_bad_value_is_named_at_once() -> None:
    confs = {name: {"desc": name, "default": 1} for name in ("A", "B", "C")}
    with pytest.raises(InvalidValueError) as caught:
        declare(confs).encode({"A": "x", "B": 2, "C": None})
    assert set(caught.value.problems) == {"A", "C"}


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), 1j, float("nan"), float("inf"), [object()], {"a": object()}]
)
def test_unserialisable_value_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError):
        declare({"X": {"desc": "d", "default": None, "type": Any}}).encode({"X": value})


def test_endless_value_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InvalidValueError):
        declare({"X": {"desc": "d", "default": []}}).encode({"X": endless})


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ({"default": "a"}, "on", "on"),
        ({"default": "a"}, "5", "5"),
        ({"default": "a"}, "", ""),
        ({"default": 1}, "5", 5),
        ({"default": True}, "false", False),
        ({"default": False}, "1", True),
        ({"default": 1.5}, "2", 2.0),
        ({"default": [1]}, "[1, 2]", [1, 2]),
        ({"default": {"a": 1}}, '{"b": null}', {"b": None}),
        ({"default": NOON}, "2026-07-01T12:00:00Z", NOON),
        ({"default": timedelta(1)}, "PT90S", timedelta(seconds=90)),
        ({"default": Decimal(1)}, "9.90", Decimal("9.90")),
        ({"default": Color.RED}, "blue", Color.BLUE),
        ({"default": 1, "type": int | None}, "null", None),
        ({"default": Limits(1)}, '{"per_minute": 4}', Limits(4)),
    ],
)
def test_text_of_a_person_becomes_a_typed_value(
    spec: dict[str, Any], text: str, value: object
) -> None:
    parsed = make(**spec).parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [({"default": 1}, "five"), ({"default": [1]}, "[1"), ({"default": 5, "max": 9}, "10")],
)
def test_text_of_a_person_that_fits_no_reading_is_refused(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValueError, match="X: "):
        declare({"X": {"desc": "d", **spec}}).parse({"X": text})


SECRET = "s3cr3t-4711"


def refuse_and_quote(value: str) -> None:
    if value.startswith(SECRET):
        raise ValueError(f"{value} is too weak")


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"default": 1}, SECRET),
        ({"default": "a", "validate": refuse_and_quote}, SECRET),
        ({"default": "a", "validate": lambda value: SECRET not in value}, SECRET),
        ({"default": "a", "choices": ["a", "b"]}, SECRET),
        ({"default": "a", "choices": ["a", SECRET]}, "c"),
        ({"default": "a", "type": Literal["a", "b"]}, SECRET),
        ({"default": Color.RED}, SECRET),
        ({"default": 5, "max": 9}, 4711),
        ({"default": None, "type": Any}, {SECRET, object()}),
        ({"default": UUID(int=1)}, SECRET),
    ],
)
def test_secret_value_is_in_no_message(spec: dict[str, Any], value: object) -> None:
    declarations = declare({"X": {"desc": "d", "secret": True, **spec}})
    with pytest.raises(InvalidValueError) as caught:
        declarations.encode({"X": value})
    assert "4711" not in f"{caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_secret_is_not_in_the_repr_of_a_declaration() -> None:
    declaration = make(default=SECRET, choices=[SECRET, "other"], secret=True)
    assert SECRET not in repr(declaration)


def test_secret_default_that_does_not_fit_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare({"X": {"desc": "d", "default": SECRET, "choices": ["a"], "secret": True}})
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        declare({"X": {"desc": "d", "default": 1, "choices": [1, SECRET], "secret": True}})
    assert SECRET not in str(caught.value)


@dataclass
class Moody:
    mood: str = "good"

    def __post_init__(self) -> None:
        if self.mood == "bad":
            raise RuntimeError("in no mood")


@pytest.mark.parametrize(
    ("spec", "raw"),
    [
        ({"default": Decimal(1), "min": Decimal(0)}, '"NaN"'),
        ({"default": "a", "type": str | list[str], "choices": {"a", "b"}}, '["a"]'),
        ({"default": Moody()}, '{"mood": "bad"}'),
        ({"default": NOON, "min": NOON}, '"2026-07-01T12:00:00"'),
        pytest.param({"default": 1}, "1" * 5000, id="a number of 5000 digits"),
        pytest.param({"default": []}, "[" * 100_000, id="100000 brackets"),
        ({"default": "a"}, '"\\ud800"'),
        ({"default": 1}, ""),
        ({"default": 1}, "\0"),
    ],
)
def test_stored_text_of_any_kind_is_refused_by_a_value_error_and_nothing_else(
    spec: dict[str, Any], raw: str
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        declare({"X": {"desc": "d", **spec}})["X"].decode(raw)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"default": Decimal(1), "min": Decimal(0)}, Decimal("NaN")),
        ({"default": Decimal(1)}, Decimal("sNaN")),
        ({"default": "a", "type": str | list[str], "choices": {"a", "b"}}, ["a"]),
        ({"default": Moody()}, {"mood": "bad"}),
        ({"default": "a"}, "\ud800"),
        pytest.param({"default": 1}, 10**5000, id="a number of 5000 digits"),
    ],
)
def test_value_of_any_kind_is_refused_by_an_invalid_value_error_and_nothing_else(
    spec: dict[str, Any], value: object
) -> None:
    with pytest.raises(InvalidValueError):
        declare({"X": {"desc": "d", **spec}}).encode({"X": value})


def test_mapping_that_is_no_dict_declares_too() -> None:
    class Conf(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"desc": "d", "default": 1}[key]

        def __iter__(self) -> Any:
            return iter(("desc", "default"))

        def __len__(self) -> int:
            return 2

    assert declare({"X": Conf()}).defaults() == {"X": 1}
