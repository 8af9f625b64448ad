"""Read an ini as uWSGI does, with line numbers, and without running anything.

Source for every step: core/ini.c, core/config.c and core/uwsgi.c of uWSGI 2.0.31.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from . import hazards, logic
from .magic import is_exact, logical_lines, magic_table
from .model import CheckError, Hazard, Option, Resolved

_MAX_DEPTH = 32
_MAX_OPTIONS = 20_000
_MAX_BYTES = 4 << 20
# Of all values together, and of all that was put into them: some double with each placeholder.
_MAX_TEXT = 8 << 20
_ENDS = frozenset({"end", "endfor", "endif", "end-if", "end-for"})
_ENV = re.compile(r"\$\(([^()]+)\)")
_FILE = re.compile(r"@\(([^()]+)\)")
_PLACEHOLDER = re.compile(r"%\(([^()]+)\)")


def read(path: str, section: str = "uwsgi", env: Mapping[str, str] | None = None) -> Resolved:
    """Return the options of an ini and of all that it includes.

    Relative includes are resolved against the current directory, as uWSGI does.

    :param env: the environment that ``$(NAME)`` and ``if-env`` see.
    :raises CheckError: if a file is missing, is not an ini, or includes itself.
    """
    reader = _Reader(os.environ if env is None else env)
    try:
        reader.load(path, section, at=None, named=section != "uwsgi" or ":" in path)
        if not reader.found_section:
            raise CheckError(
                f"{path} has no section [{section}] with options: is it an ini of uWSGI, "
                "and is --section right?"
            )
        raw_values = frozenset(o.value for o in reader.options)
        reader.expand()
        reader.configure()
    except RecursionError:
        raise CheckError(f"{path} nests its options too deeply") from None
    return Resolved(
        file=path,
        section_line=reader.section_line,
        options=tuple(Option(o.key, o.value, o.file, o.line, o.inherited) for o in reader.options),
        hazards=tuple(reader.hazards) + hazards.at_exit(reader.options),
        raw_values=raw_values,
    )


class _Entry:
    """An option while it is being resolved."""

    __slots__ = ("done", "file", "inherited", "key", "line", "value")

    def __init__(self, key: str, value: str, file: str, line: int, inherited: bool) -> None:
        self.key = key
        self.value = value
        self.file = file
        self.line = line
        self.inherited = inherited
        # uWSGI applies the placeholder passes only to what it has not acted on yet.
        self.done = False


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.options: list[_Entry] = []
        self.hazards: list[Hazard] = []
        self.found_section = False
        self.section_line = 1
        self._root_magic: dict[str, str] | None = None
        self._depth = 0
        self._inherited = False
        self._logic: tuple[str, str] | None = None
        self._in_round = False
        self._last_file = ""
        self._first: dict[str, _Entry] = {}
        self._text_left = _MAX_TEXT

    # Reading

    def load(self, name: str, section: str, at: _Entry | None, *, named: bool) -> None:
        """Read one section of one file, and what it includes on the way.

        :param named: the section was written after the path, so ``%x`` tells it.
        """
        where = f"{at.file}:{at.line}: " if at else ""
        if self._depth >= _MAX_DEPTH:
            raise CheckError(f"{where}{name} includes itself, or {_MAX_DEPTH} files deep")
        text = _read_text(name, where)
        if not is_exact(text) or "\ufffd" in text:
            self.hazards.append(Hazard("exec", "text that only uWSGI can spell out", name, 1))
        magic = magic_table(
            name,
            section if named else "",
            self._root_magic,
            spelled="" if at is not None and at.value.startswith(":") else name,
        )
        self._last_file = name
        if self._root_magic is None:
            self._root_magic = magic
        self._depth += 1
        current = ""
        for number, raw in logical_lines(text, magic):
            line = raw.strip(" \t\r")
            if not line or line[0] in ";#":
                continue
            if line[0] == "[":
                current = line[1:-1]
                if current == section and at is None and not self.found_section:
                    self.section_line = number
                continue
            if current != section:
                continue
            self.found_section = True
            key, _, value = line.partition("=")
            key, value = key.rstrip(" \t\r"), value.lstrip(" \t\r")
            self._add(_Entry(key, value, name, number, self._inherited))
        self._depth -= 1

    def _add(self, entry: _Entry) -> None:
        if self._in_round:
            # What a block includes is no part of the block.
            self._append(entry)
            return
        if entry.key in _ENDS:
            self._logic = None
        elif self._logic is not None:
            kind, argument = self._logic
            self._in_round = True
            for value in logic.values(kind, argument, self.env, self._exported):
                self._append(
                    _Entry(
                        entry.key,
                        # A variable that is not set leaves the text alone.
                        entry.value if value is None else entry.value.replace("%(_)", value),
                        entry.file,
                        entry.line,
                        entry.inherited,
                    )
                )
            self._in_round = False
            return
        self._append(entry)

    def _append(self, entry: _Entry) -> None:
        if len(self.options) >= _MAX_OPTIONS:
            raise CheckError(f"{entry.file}:{entry.line}: more than {_MAX_OPTIONS} options")
        self._spend(entry, entry.value)
        self.options.append(entry)
        self._first.setdefault(entry.key, entry)
        self.hazards.extend(hazards.of(entry.key, entry.value, entry.file, entry.line))
        if entry.key in logic.KINDS:
            if self._logic is not None:
                raise CheckError(
                    f"{entry.file}:{entry.line}: uWSGI refuses if and for inside each other"
                )
            self._logic = (entry.key, entry.value)
            entry.done = True
        elif entry.key in _ENDS:
            entry.done = True
        elif entry.key in {"ini", "include"}:
            entry.done = True
            self._include(entry)
        elif entry.key in {"set", "set-placeholder", "set-ph"}:
            entry.done = True
            key, equals, value = entry.value.partition("=")
            if equals:
                made = _Entry(key, value, entry.file, entry.line, entry.inherited)
                self._append(made)
                # No option but a name for others: uWSGI leaves its own value as it stands.
                made.done = entry.key != "set"

    def _include(self, entry: _Entry) -> None:
        name = entry.value
        if hazards.is_scheme(name):
            return
        section, colon = "uwsgi", ""
        if entry.key == "ini":
            head, colon, tail = name.rpartition(":")
            if colon:
                name, section = head or self._last_file, tail or "uwsgi"
        elif not name.endswith(".ini"):
            # uWSGI picks the reader by the ending; yaml and the like are not read here.
            self._opaque(f"{entry.key} = {name}", entry.file, entry.line)
            return
        self.load(name, section, entry, named=bool(colon))

    def _opaque(self, text: str, file: str, line: int) -> None:
        self.hazards.append(Hazard("exec", text, file, line, opaque=True))

    # Placeholders

    def _exported(self, key: str) -> str | None:
        entry = self._first.get(key)
        return None if entry is None else entry.value

    def _spend(self, entry: _Entry, text: str) -> str:
        # Each costs something, also if it is empty.
        self._text_left -= len(text) + 1
        if self._text_left < 0:
            raise CheckError(
                f"{entry.file}:{entry.line}: the options grow beyond {_MAX_TEXT} characters"
            )
        return text

    def expand(self) -> None:
        """Replace $(ENV), @(file) and %(option), in uWSGI's order."""
        pending = [o for o in self.options if not o.done]
        for entry in pending:
            self._replace(entry, _ENV, lambda m: self.env.get(m[1], m[0]))
            if "@(" in entry.value:
                found = hazards.of_value(entry.key, entry.value, entry.file, entry.line)
                self.hazards.extend(h for h in found if h not in self.hazards)
        for entry in pending:
            self._replace(entry, _FILE, partial(_at_file, entry), rounds=1)
        for entry in pending:
            self._replace(entry, _PLACEHOLDER, self._reference)

    def _reference(self, match: re.Match[str]) -> str:
        value = self._exported(match[1])
        return match[0] if value is None else value

    def _replace(
        self,
        entry: _Entry,
        pattern: re.Pattern[str],
        value_of: Callable[[re.Match[str]], str],
        *,
        rounds: int = _MAX_DEPTH,
    ) -> None:
        # uWSGI starts over after each replacement; the bound is against a value that names itself.
        for _ in range(rounds):
            replaced = pattern.sub(lambda match: self._spend(entry, value_of(match)), entry.value)
            if replaced == entry.value:
                break
            entry.value = replaced

    # inherit

    def configure(self) -> None:
        """Append what ``inherit`` names, which uWSGI does after all the rest."""
        self._inherited = True
        index = 0
        while index < len(self.options):
            entry = self.options[index]
            index += 1
            if entry.key != "inherit" or entry.done:
                continue
            entry.done = True
            if re.search(r"[$@%]\(", entry.value) or hazards.is_scheme(entry.value):
                self._opaque(f"inherit = {entry.value}", entry.file, entry.line)
                continue
            self._include(entry)


def _read_text(name: str, where: str) -> str:
    path = Path(name)
    try:
        # A pipe or a device would block, or never end.
        if not path.is_file():
            hint = ""
            if re.search(r"[$@%]\(", name):
                hint = " (uWSGI takes no placeholder here, because it includes at once)"
            raise CheckError(f"{where}{name or 'an empty name'} is not a file{hint}")
        if path.stat().st_size > _MAX_BYTES:
            raise CheckError(f"{where}{name} is larger than {_MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as exc:
        raise CheckError(f"{where}{name} can't be read: {exc.strerror}") from exc
    if b"\0" in content:
        # uWSGI would end each string there, and see other lines than these.
        raise CheckError(f"{where}{name} is not a text file")
    return content.decode("utf-8", "replace")


def _at_file(entry: _Entry, match: re.Match[str]) -> str:
    if hazards.is_scheme(match[1]) or not os.path.isfile(match[1]):
        return match[0]
    return _read_text(match[1], f"{entry.file}:{entry.line}: ").rstrip("\r\n")
