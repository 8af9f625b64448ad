"""Declared settings, and their values to and from raw text."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ..errors import ChangeRefused, InvalidValueError, PinnedSettingError, UnknownSettingError
from ..masking import OwnRepr
from .arguments import check_values
from .raws import dump, too_long
from .shapes import shape_of

DefaultFrom = Literal["declaration", "config"]

#: how to bound what has a length
LENGTH_FIX = "to bound the length, declare the type Annotated[str, msgspec.Meta(max_length=…)]"
#: why a pinned setting is not changed, and how it is
PINNED = (
    "it is pinned, so no change of it is taken: set it in the environment or the configuration "
    "file and reload, or unpin it (in WAFFLE_PINNED, or 'pinned' in its declaration)"
)


class Declaration(OwnRepr, frozen=True, eq=False):
    """One declared setting.

    :ivar name: key in ``app.config``.
    :ivar default_raw: raw text of the value served while nothing is stored.
    :ivar type: any type that msgspec can read from JSON.
    :ivar min: smallest allowed value, or ``None``.
    :ivar max: largest allowed value, or ``None``.
    :ivar choices: the only allowed values, or ``None``.
    :ivar validate: called with the typed value; raises, or returns ``False``, to refuse it.
    :ivar secret: the value is never shown in a message, a log or a repr.
    :ivar label: its name for people, on the admin page.
    :ivar role: who has it may change the setting on the admin page, or ``None`` for everyone there.
    :ivar pinned: the default is served whatever is stored, and no change of it is taken.
    :ivar default_from: ``config`` if ``app.config`` had the default before the extension.
    """

    name: str
    desc: str
    default_raw: str
    type: Any
    min: Any
    max: Any
    choices: Collection[Any] | None
    validate: Callable[[Any], object] | None
    secret: bool
    group: str | None
    label: str | None
    role: str | None
    pinned: bool
    default_from: DefaultFrom
    decoder: msgspec.json.Decoder[Any]

    def __repr__(self) -> str:
        # The default and the choices may be secret.
        return f"Declaration(name={self.name!r}, …)"

    @property
    def default(self) -> Any:
        """The typed default; a new object each time, so nobody can spoil it for others."""
        return self.decoder.decode(self.default_raw)

    @property
    def allowed(self) -> Collection[Any] | None:
        """The only allowed values: its choices, else those of its type, or ``None``."""
        return shape_of(self.type).choices if self.choices is None else self.choices

    def encode(self, value: object) -> str:
        """Return the raw text of a value, after every check.

        The text is decoded again here: what every worker will read is what was checked.

        :raises ValueError: the value does not fit; the message never shows a secret.
        """
        try:
            typed = msgspec.convert(value, self.type, strict=True)
            raw = dump(typed)
        except BaseException as exc:  # a declared class runs its own code here
            raise ValueError(self.refusal(exc)) from exc
        if fault := too_long(raw):
            raise ValueError(fault)
        if isinstance(typed, float) and not math.isfinite(typed):
            raise ValueError("it must be a finite number: JSON has neither inf nor nan")
        decoded = self.decode(raw)
        if differ(decoded, typed):
            if differ(typed, typed):
                raise ValueError("it must be a number that equals itself, got NaN")
            raise ValueError(
                "it does not survive being stored as JSON"
                + ("" if self.secret else f": {typed!r} would come back as {decoded!r}")
            )
        return raw

    def decode(self, raw: str) -> Any:
        """Return the typed value of raw text, after every check.

        :raises ValueError: the text is not JSON of this type, or breaks a constraint.
        """
        if fault := too_long(raw):
            raise ValueError(fault)
        try:
            value = self.decoder.decode(raw)
        except BaseException as exc:  # a declared class runs its own code here
            raise ValueError(self.refusal(exc)) from exc
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError("it must be a finite number")
        self._check_constraints(value)
        return value

    def parse(self, text: str) -> Any:
        """Return the typed value that a person wrote as plain text, in a form or on a command line.

        Text that fits the type as it stands is taken so ("on" for a ``str``, "5" for an ``int``,
        "yes" for a ``bool``, "30m" for a ``timedelta``); anything else is read as JSON. Where
        ``None`` is a value, "null" means it, and so does nothing at all unless that fits.

        :raises ValueError: neither reading gives a fitting value.
        """
        # Here, and below the words of refusals: workers hardly ever need them, and memory counts.
        from . import spelling

        value: Any = None
        if text != "null" or not spelling.takes_null(self.type):
            try:
                spelled = spelling.spelled(text, self.type)
                value = msgspec.convert(spelled, self.type, strict=False)
            except msgspec.MsgspecError as exc:
                value = self._parse_json(text, exc)
        return self.decode(self.encode(value))

    def _parse_json(self, text: str, plain: Exception) -> Any:
        from . import spelling

        try:
            return msgspec.json.decode(text, type=self.type, strict=False)
        except (msgspec.MsgspecError, RecursionError) as exc:
            if not text.strip() and spelling.takes_null(self.type):
                return None
            # What was meant as JSON gets the error of that reading, which names the wrong item.
            if text.lstrip()[:1] in ("[", "{"):
                raise ValueError(self.refusal(exc)) from exc
            hint = spelling.hint(self.type)
            # A number as it was typed, and not how the reader of types calls it.
            if not hint and "got `str`" in str(plain):
                hint = spelling.no_number(self.type, "" if self.secret else text.strip())
            raise ValueError(hint or self.refusal(plain)) from exc

    def _check_constraints(self, value: Any) -> None:
        # Optional settings: "no value" has no size.
        sized = value is not None
        try:
            too_low = sized and self.min is not None and value < self.min
            too_high = sized and self.max is not None and value > self.max
            unknown = self.choices is not None and value not in self.choices
        except Exception as exc:  # a NaN, a time without a zone, a list among a set's choices
            detail = "" if self.secret else f" ({exc})"
            hint = f"; {LENGTH_FIX}" if isinstance(value, Sized) else ""
            raise ValueError(
                f"it can't be compared with its bounds or choices{detail}{hint}"
            ) from exc
        if too_low or too_high or unknown:
            from .wording import one_of, written

            if too_low:
                bound = f"it must be at least {written(self.min)}"
            elif too_high:
                bound = f"it must be at most {written(self.max)}"
            else:
                bound = one_of(None if self.secret else self.choices)
            raise ValueError(f"{bound}{self._shown(value)}")
        if self.validate is not None:
            self._ask_validate(value, self.validate)

    def _ask_validate(self, value: Any, validate: Callable[[Any], object]) -> None:
        reason = "its validate function refused it"
        try:
            verdict = validate(value)
        except BaseException as exc:
            # SystemExit and the like, too: a value that is stored would end each request that reads
            # it. The user's own function may quote the value in its message.
            detail = "" if self.secret else f": {str(exc) or type(exc).__name__}"
            raise ValueError(f"{reason}{self._shown(value)}{detail}") from exc
        if verdict is False:
            raise ValueError(f"{reason}{self._shown(value)}")

    def _shown(self, value: object) -> str:
        if self.secret:
            return ""
        from .wording import written

        return f", got {written(value)}"

    def refusal(self, exc: BaseException) -> str:
        """Return why msgspec refused a value or a text; never shows a secret."""
        if isinstance(exc, UnicodeEncodeError):
            return (
                "it must be text that UTF-8 can write; where a command was given it, the locale is "
                "another: set LC_ALL=C.UTF-8"
            )
        # msgspec quotes the value that is none of an Enum or a Literal.
        if self.secret:
            return f"it is not {type_name(self.type)} ({type(exc).__name__})"
        if isinstance(exc, msgspec.ValidationError):
            from .wording import explained

            return explained(str(exc), shape_of(self.type).choices)
        if isinstance(exc, msgspec.DecodeError):
            return f"it is not JSON: {str(exc).removeprefix('JSON is malformed: ')}"
        return f"it is not {type_name(self.type)}: {exc}"


class Declarations(Mapping[str, Declaration]):
    """The declared settings of one app; read-only, in the order of ``WAFFLE_CONFS``."""

    def __init__(self, declarations: Iterable[Declaration]) -> None:
        self._by_name = {declaration.name: declaration for declaration in declarations}

    def __getitem__(self, name: str) -> Declaration:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def defaults(self) -> dict[str, Any]:
        """Return the typed default of every setting, by name."""
        return {name: declaration.default for name, declaration in self._by_name.items()}

    def require(self, names: Iterable[str]) -> None:
        """Check that every name is declared.

        :raises UnknownSettingError: names every one that is not.
        """
        problems = {name: unknown_name(name, self._by_name) for name in names if name not in self}
        if problems:
            raise UnknownSettingError(problems)

    def refuse_pinned(self, names: Iterable[str]) -> None:
        """Check that no name is pinned.

        :raises PinnedSettingError: names every one that is.
        """
        pinned = [name for name in names if name in self._by_name and self._by_name[name].pinned]
        if pinned:
            raise PinnedSettingError(dict.fromkeys(pinned, PINNED))

    def encode(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return the raw text of every value: a mapping of setting name to JSON text.

        :raises UnknownSettingError: a name is not declared; names every bad key.
        :raises InvalidValueError: a value does not fit; names every bad key.
        """
        return self.each(values, Declaration.encode)

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return the typed values of texts that a person wrote, by name.

        :raises UnknownSettingError: a name is not declared; names every bad key.
        :raises InvalidValueError: a text does not fit; names every bad key.
        """
        return self.each(texts, Declaration.parse)

    def each(
        self, given: Mapping[str, Any], convert: Callable[[Declaration, Any], Any]
    ) -> dict[str, Any]:
        """Return what a function makes of each value, by setting name.

        :param convert: called with a declaration and its value; raises ValueError to refuse it.
        :raises UnknownSettingError: a name is not declared; names every bad key.
        :raises InvalidValueError: a value is refused; names every bad key.
        """
        check_values(given)
        results: dict[str, Any] = {}
        problems: dict[str, str] = {}
        refusal: type[ChangeRefused] = InvalidValueError
        for name, item in given.items():
            declaration = self._by_name.get(name)
            if declaration is None:
                refusal = UnknownSettingError
                problems[name] = unknown_name(name, self._by_name)
                continue
            try:
                results[name] = convert(declaration, item)
            except ValueError as exc:
                problems[name] = str(exc)
        if problems:
            raise refusal(problems)
        return results


def unknown_name(name: object, known: Iterable[str]) -> str:
    """Return the sentence that says that a name is not declared, with the nearest one that is."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    if near:
        return f"not a declared setting; did you mean {near[0]}?"
    return "not a declared setting; declare it in WAFFLE_CONFS"


def differ(one: object, other: object) -> bool:
    """Return whether two values differ; two that can't be compared do."""
    try:
        return bool(one != other)
    except Exception:  # a signalling NaN, or the own code of a declared class
        return True


def type_name(type_: Any) -> str:
    """Return a type as a person would write it."""
    return type_.__name__ if type(type_) is type else str(type_).replace("typing.", "")
