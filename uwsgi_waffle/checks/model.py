"""The words of a check: options with their origin, hazards, findings, the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from ..errors import WaffleError

if TYPE_CHECKING:
    from .copying import Sheet

Level = Literal["error", "warning"]


class CheckError(WaffleError):
    """The file could not be checked, and nothing is known about it."""


class Option(msgspec.Struct, frozen=True):
    """One option as uWSGI sees it, and where it was written.

    :ivar line: 1-based line in ``file``; None where no line sets it.
    :ivar inherited: it came through ``inherit``, so it was appended last.
    """

    key: str
    value: str
    file: str
    line: int | None
    inherited: bool = False


class Hazard(msgspec.Struct, frozen=True):
    """A line that makes uWSGI's parser do more than read.

    :ivar kind: ``plugins`` is lifted by ``--allow-plugins``, ``exec`` by ``--allow-exec``.
    :ivar opaque: the options that the file sets are not known without running it.
    """

    kind: Literal["exec", "plugins"]
    text: str
    file: str
    line: int
    opaque: bool = False


class Resolved(msgspec.Struct, frozen=True):
    """Every option of a file in the order in which uWSGI applies them.

    :ivar section_line: line of the section's header in the checked file.
    :ivar hazards: empty means that uWSGI's parser may read the file.
    :ivar raw_values: the values before their placeholders were replaced.
    :ivar sheets: the lines that were read, file by file, the checked file's first.
    :ivar quoted: mapping of the name in ``@(name)`` to the bytes that were read.
    """

    file: str
    section_line: int
    options: tuple[Option, ...]
    hazards: tuple[Hazard, ...] = ()
    raw_values: frozenset[str] = frozenset()
    sheets: tuple[Sheet, ...] = ()
    quoted: Mapping[str, bytes] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that breaks or weakens a promise, in an ini or in an app's set-up.

    As JSON, what does not apply is left out.

    :ivar id: stable, as in :data:`uwsgi_waffle.checks.RULES` or
        :data:`uwsgi_waffle.doctor.RULES`.
    :ivar message: what is wrong, the same for every finding of this id.
    :ivar detail: where it is, or how it shows.
    :ivar fix: what to do about it.
    :ivar file: the ini that has it.
    :ivar line: 1-based; for something that is absent, the section's header.
    :ivar option: of uWSGI, as it is written or should be.
    """

    id: str
    level: Level
    message: str
    detail: str = ""
    fix: str
    file: str | None = None
    line: int | None = None
    option: str | None = None


class Report(msgspec.Struct, frozen=True):
    """The findings of a check, and how it read the file.

    :ivar parser: ``uWSGI 2.0.30`` or ``built-in``.
    :ivar python: version of the Python inside uWSGI, such as ``3.13``; None if not known.
    """

    file: str
    section: str
    parser: str
    python: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
