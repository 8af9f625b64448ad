"""The plan of an import: what would become of each stored row, before anything is written."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..operations import is_same
from ..settings.declarations import Declaration, Declarations
from .reader import LegacyError, LegacyReader


class Verdict(str, enum.Enum):
    """The fate of a row in an import."""

    #: its value is written
    IMPORT = "import"
    #: its value is the declared default: nothing needs to be stored
    DEFAULT = "default"
    #: it was imported already
    UNCHANGED = "unchanged"
    #: the setting was changed since, so that the row is out of date
    KEPT = "kept"
    #: no setting of this name is declared
    UNDECLARED = "undeclared"
    #: it can't be read, or does not fit the declaration
    REFUSED = "refused"


class Line(NamedTuple):
    """The plan for one row.

    :ivar raw: JSON text of the row's value, or ``None`` if it was not read.
    :ivar reason: why it is refused or kept, without the value of a secret.
    """

    name: str
    verdict: Verdict
    raw: str | None = None
    reason: str = ""


class LegacyPlan(NamedTuple):
    """An import that was worked out and not made yet; one line for each row, in their order."""

    lines: tuple[Line, ...]

    @property
    def raws(self) -> dict[str, str | None]:
        """The change to be written: mapping of setting name to JSON text; ``None`` resets."""
        return {
            line.name: line.raw if line.verdict is Verdict.IMPORT else None
            for line in self.lines
            if line.verdict in (Verdict.IMPORT, Verdict.DEFAULT)
        }

    @property
    def refused(self) -> dict[str, str]:
        """Mapping of the name of each refused row to the reason."""
        return {line.name: line.reason for line in self.lines if line.verdict is Verdict.REFUSED}

    def named(self, verdict: Verdict) -> list[str]:
        """Return the names of the rows with one verdict."""
        return [line.name for line in self.lines if line.verdict is verdict]


def import_legacy(
    rows: Iterable[tuple[object, object]],
    declarations: Declarations,
    stored: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> LegacyPlan:
    """Return what an import of rows would do; writes nothing.

    :param rows: names and texts as Flask-WaffleConf stored them. Rows that this package wrote
        may be among them: JSON is left alone.
    :param stored: mapping of setting name to raw text, of what the store holds now. It may hold
        the same rows, if the store uses the very table.
    :param overwrite: the rows win over settings that were changed since.
    """
    by_name: dict[str, list[object]] = {}
    for name, text in rows:
        by_name.setdefault(_text(name) or repr(name), []).append(text)
    stored = stored or {}
    with LegacyReader() as reader:
        return LegacyPlan(
            tuple(
                _line(reader, name, texts, declarations.get(name), stored.get(name), overwrite)
                for name, texts in by_name.items()
            )
        )


def _line(
    reader: LegacyReader,
    name: str,
    texts: list[object],
    declaration: Declaration | None,
    current: str | None,
    overwrite: bool,
) -> Line:
    if declaration is None:
        return Line(name, Verdict.UNDECLARED)
    if len(texts) > 1:
        return Line(name, Verdict.REFUSED, reason=f"there are {len(texts)} rows of this name")
    text = _text(texts[0])
    if text is None:
        return Line(name, Verdict.REFUSED, reason="it is not a string")
    if text == current and _is_json(text):
        return Line(name, Verdict.UNCHANGED, text)
    try:
        raw = declaration.encode(reader.decode(text))
    except LegacyError as exc:
        return Line(name, Verdict.REFUSED, reason=str(exc))
    except ValueError as exc:
        return Line(name, Verdict.REFUSED, reason=f"it does not fit its declaration: {exc}")
    return _compared(name, raw, declaration, current, overwrite)


def _compared(
    name: str, raw: str, declaration: Declaration, current: str | None, overwrite: bool
) -> Line:
    # No base64 of a pickle is JSON, so what is not JSON is a row still to be imported.
    moved = current is not None and _is_json(current)
    if moved and current is not None and is_same(declaration, current, raw):
        return Line(name, Verdict.UNCHANGED, raw)
    if moved and not overwrite:
        reason = "it was changed since; --overwrite takes the row"
        return Line(name, Verdict.KEPT, raw, reason)
    if not is_same(declaration, declaration.default_raw, raw):
        return Line(name, Verdict.IMPORT, raw)
    if current is None:
        return Line(name, Verdict.UNCHANGED, raw)
    return Line(name, Verdict.DEFAULT, raw)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text(value: Any) -> str | None:
    """Return a column's content as text; drivers give that of a binary column as bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) else None
