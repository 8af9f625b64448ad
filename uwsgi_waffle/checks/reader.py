"""Read an ini as uWSGI does, with line numbers, and without running anything.

Source for every step: core/ini.c, core/config.c and core/uwsgi.c of uWSGI 2.0.31.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial

from . import hazards, logic
from .copying import Entry, Sheet
from .files import FileReader
from .magic import is_exact, logical_lines, magic_table
from .model import CheckError, Hazard, Option, Resolved
from .placeholders import calculated, substituted

_MAX_DEPTH = 32
_MAX_OPTIONS = 20_000
# Of all values together, and of all that was put into them: some double with each placeholder.
_MAX_TEXT = 8 << 20
_ENDS = frozenset({"end", "endfor", "endif", "end-if", "end-for"})


def read(
    path: str,
    section: str = "uwsgi",
    env: Mapping[str, str] | None = None,
    *,
    also: Sequence[str] = (),
    content: bytes | None = None,
) -> Resolved:
    """Return the options of an ini and of all that it includes.

    Relative includes are resolved against the current directory, as uWSGI does.

    :param also: files that uWSGI reads before this one.
    :param content: taken in place of the file's.
    :param env: the environment that ``$(NAME)`` and ``if-env`` see.
    :raises CheckError: if a file is missing, is not an ini, or includes itself.
    """
    given = {} if content is None else {path: content}
    reader = _Reader(os.environ if env is None else env, FileReader(given))
    try:
        reader.start(path, section, also)
        if not reader.found_section:
            if reader.files.text(path, "").startswith("\ufeff"):
                raise CheckError(
                    f"{path} begins with a byte order mark, which hides its first line from uWSGI: "
                    "save it as UTF-8 without one"
                )
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
        sheets=tuple(reader.sheets),
        quoted=reader.files.quoted,
    )


class _Reader:
    def __init__(self, env: Mapping[str, str], files: FileReader) -> None:
        self.env = env
        self.files = files
        self.options: list[Entry] = []
        self.sheets: list[Sheet] = []
        self.hazards: list[Hazard] = []
        self.found_section = False
        self.section_line = 1
        self._root_magic: dict[str, str] | None = None
        self._depth = 0
        self._inherited = False
        self._logic: tuple[str, str] | None = None
        self._in_round = False
        self._last_file = ""
        self._first: dict[str, Entry] = {}
        self._text_left = _MAX_TEXT

    # Reading

    def start(self, path: str, section: str, also: Sequence[str]) -> None:
        """Read the files that uWSGI is started with."""
        root = Sheet()
        if also:
            self.sheets.append(root)
        for name in also:
            entry = self._started(name)
            self.options.append(entry)
            root.add(entry)
            self._load_started(entry, name, "uwsgi")
        self.found_section = False
        entry = self._started(path)
        if also:
            self.options.append(entry)
            root.add(entry)
        self._load_started(entry, path, section)
        self.sheets[0].name = self._first["ini"].value

    def _started(self, name: str) -> Entry:
        entry = Entry("ini", name, name, 1, False)
        # An option like any other, to if-opt and to placeholders.
        self._first.setdefault("ini", entry)
        return entry

    def _load_started(self, entry: Entry, path: str, section: str) -> None:
        # The last colon starts a section, so a path with a colon needs one.
        named = section != "uwsgi" or ":" in path
        entry.done = True
        entry.sheet = self.load(path, section, None, named=named)
        # While uWSGI reads the file, it has cut the section off.
        entry.value = f"{path}:{section}" if named else path

    def load(self, name: str, section: str, at: Entry | None, *, named: bool) -> Sheet:
        """Read one section of one file, and what it includes on the way.

        :param named: the section was written after the path, so ``%x`` has it.
        """
        where = f"{at.file}:{at.line}: " if at else ""
        if self._depth >= _MAX_DEPTH:
            raise CheckError(f"{where}{name} includes itself, or {_MAX_DEPTH} files deep")
        text = self.files.text(name, where)
        sheet = Sheet()
        self.sheets.append(sheet)
        for number, line in enumerate(text.split("\n"), 1):
            # Only uWSGI can spell it out.
            if not is_exact(line) or "\ufffd" in line:
                self.hazards.append(Hazard("exec", line.strip(), name, number))
                break
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
            self._add(Entry(key, value, name, number, self._inherited), sheet)
        self._depth -= 1
        return sheet

    def _add(self, entry: Entry, sheet: Sheet) -> None:
        if self._in_round:
            # What a block includes is no part of the block.
            self._append(entry)
            sheet.add(entry)
            return
        if entry.key in _ENDS:
            self._logic = None
        elif self._logic is not None:
            kind, argument = self._logic
            self._in_round = True
            lines = partial(self.files.lines, where=f"{entry.file}:{entry.line}: ")
            for value in logic.values(kind, argument, self.env, self._exported, lines):
                made = Entry(
                    entry.key,
                    # A variable that is not set leaves the text alone.
                    entry.value if value is None else entry.value.replace("%(_)", value),
                    entry.file,
                    entry.line,
                    entry.inherited,
                )
                self._append(made)
                sheet.add(made)
            self._in_round = False
            return
        self._append(entry)
        sheet.add(entry, closed=entry.key in logic.KINDS)

    def _append(self, entry: Entry) -> None:
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
                made = entry.made = Entry(key, value, entry.file, entry.line, entry.inherited)
                self._append(made)
                # No option but a name for others: uWSGI leaves its own value as it stands.
                made.done = entry.key != "set"

    def _include(self, entry: Entry) -> None:
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
        entry.sheet = self.load(name, section, entry, named=bool(colon))

    def _opaque(self, text: str, file: str, line: int) -> None:
        self.hazards.append(Hazard("exec", text, file, line, opaque=True))

    # Placeholders

    def _exported(self, key: str) -> str | None:
        entry = self._first.get(key)
        return None if entry is None else entry.value

    def _spend(self, entry: Entry, text: str) -> str:
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
            spend = partial(self._spend, entry)
            entry.value = substituted("$", entry.value, self.env.get, spend)
            if "@(" in entry.value:
                found = hazards.of_value(entry.key, entry.value, entry.file, entry.line)
                self.hazards.extend(h for h in found if h not in self.hazards)
                entry.quoting = entry.value
        for entry in pending:
            spend = partial(self._spend, entry)
            entry.value = substituted("@", entry.value, partial(self._quoted, entry), spend)
        for entry in pending:
            spend = partial(self._spend, entry)
            entry.value = substituted("%", entry.value, self._reference, spend)

    def _quoted(self, entry: Entry, name: str) -> str | None:
        if hazards.is_scheme(name):
            return None
        text = self.files.quote(name, f"{entry.file}:{entry.line}: ")
        if "@(" in text:
            # uWSGI looks for files once more in what it has put in.
            self._opaque(f"{entry.key} = @({name})", entry.file, entry.line)
            return None
        return text

    def _reference(self, expression: str) -> str | None:
        return calculated(expression, self._exported)

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
