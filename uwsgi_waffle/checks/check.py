"""Check one file: scan it, let uWSGI resolve it where that is safe, apply the rules."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from . import binary, debian, rules
from .copying import NotCopiedError, private_copy
from .model import CheckError, Hazard, Option, Report, Resolved
from .reader import read

_FLAGS = {"exec": "--allow-exec", "plugins": "--allow-plugins"}


def check_file(
    path: str | os.PathLike[str],
    *,
    section: str = "uwsgi",
    also: Sequence[str] | None = None,
    content: bytes | None = None,
    uwsgi: str | None = None,
    python: str | None = None,
    allow_exec: bool = False,
    allow_plugins: bool = False,
    env: Mapping[str, str] | None = None,
) -> Report:
    """Return the findings of one ini.

    uWSGI's own parser resolves the file where uWSGI is installed and where the file, with
    all that it includes, makes the parser run nothing; else a reader of our own does, and
    the report says so. Relative includes are resolved against the current directory.

    :param also: files that uWSGI reads before this one; by default what Debian's package adds
        for a file in ``/etc/uwsgi/apps-enabled``.
    :param content: of the file, if it is not to be read.
    :param uwsgi: the binary; by default ``WAFFLE_UWSGI``, beside this Python, on the PATH.
    :param python: version of the server's Python, such as ``3.13``; by default uWSGI's own.
    :param allow_exec: let uWSGI's parser run commands that the file names.
    :param allow_plugins: let uWSGI's parser load plugins that the file names.
    :raises CheckError: if the file can't be read, or uWSGI refuses it, or its options can't
        be known without running a command that is not allowed.
    """
    env = os.environ if env is None else env
    file = os.fspath(path)
    _reject_other_formats(file)
    notes = []
    if also is None:
        before = debian.read_before(file)
        also = [] if before is None else [before]
        notes += [f"{name} is read first, as Debian's service does." for name in also]
    scanned = read(file, section, binary.clean_env(env), also=also, content=content)
    path_of_uwsgi = binary.find_binary(uwsgi, env)
    found = None if path_of_uwsgi is None else binary.ask(path_of_uwsgi, env)
    allowed = {kind for kind, on in (("exec", allow_exec), ("plugins", allow_plugins)) if on}
    held_back = [h for h in scanned.hazards if h.kind not in allowed]
    opaque = [h for h in (scanned.hazards if found is None else held_back) if h.opaque]
    if opaque:
        raise CheckError(_refusal(opaque[0], found is None))
    if found is None:
        parser = "built-in"
        notes.append("uWSGI is not installed here: the file was read by the built-in reader.")
        resolved = scanned
    elif held_back:
        parser = "built-in"
        notes += [_held_back(h) for h in held_back]
        resolved = scanned
    else:
        try:
            if not scanned.hazards:
                pairs = _asked(found, env, scanned)
            elif content is None:
                # Allowed by the user, who thereby trusts the file. What a command will print,
                # or what a plugin brings in, can't be copied.
                pairs = binary.show_config(found, file, section, env, also)
            else:
                raise CheckError(f"{file} needs --allow-exec or --allow-plugins: not with --stdin")
        except NotCopiedError as exc:
            parser = "built-in"
            notes.append(f"{exc} can't be given to uWSGI, so the built-in reader read the file.")
            resolved = scanned
        else:
            parser = f"uWSGI {found.version}"
            resolved = _located(pairs, scanned)
    ignored = sorted(n for n in env if n.startswith("UWSGI_") and n != "UWSGI_BINARY_PATH")
    if ignored:
        notes.append(f"Left out of the check, though uWSGI reads them: {', '.join(ignored)}.")
    emperor = next((o for o in resolved.options if o.key == "emperor"), None)
    if emperor is not None:
        notes.append(
            "This is an emperor's file: check its vassals too, by naming their folder to `check`."
        )
    version, note = _python_version(python, found)
    if note:
        notes.append(note)
    subject = rules.Subject(
        options=resolved.options,
        file=file,
        section_line=scanned.section_line,
        server=found,
        python=version,
        has_binary_path="UWSGI_BINARY_PATH" in env,
        placeholders=_used_placeholders(scanned.raw_values),
    )
    text = None if version is None else f"{version[0]}.{version[1]}"
    return Report(file, section, parser, text, tuple(rules.apply(subject)), tuple(notes))


def find_server(uwsgi: str | None = None) -> binary.Server:
    """Return what is known of the installed uWSGI; blocks for as long as it takes to ask it.

    :raises CheckError: there is none.
    """
    path = binary.find_binary(uwsgi, os.environ)
    if path is None:
        raise CheckError("uWSGI is not installed: pip install 'uwsgi-waffle[uwsgi]'")
    return binary.ask(path, os.environ)


def _reject_other_formats(file: str) -> None:
    ending = Path(file).suffix.lower()
    if ending in {".yaml", ".yml", ".xml", ".json", ".js"}:
        raise CheckError(f"{file}: only ini files are checked, not {ending[1:]}")


def _refusal(hazard: Hazard, no_server: bool) -> str:
    where = f"{hazard.file}:{hazard.line}: {hazard.text!r}"
    if no_server:
        return f"{where} can be followed by uWSGI only, which is not installed here"
    return (
        f"{where} would run or load something that can't be read beforehand, and without it "
        f"the options are not known. If you trust the file: {_FLAGS[hazard.kind]}"
    )


def _held_back(hazard: Hazard) -> str:
    return (
        f"{hazard.file}:{hazard.line}: {hazard.text!r} is more than text to uWSGI's parser, so "
        f"the built-in reader read the file. {_FLAGS[hazard.kind]} lets uWSGI do it."
    )


def _asked(
    server: binary.Server, env: Mapping[str, str], scanned: Resolved
) -> list[tuple[str, str]]:
    """Return the options as uWSGI resolves what was scanned, and nothing but that.

    :raises NotCopiedError: if uWSGI can't be given what was scanned.
    """
    for option in scanned.options:
        if "\n" in option.value:
            raise NotCopiedError(f"{option.file}:{option.line}: {option.key}, of several lines,")
    with private_copy(scanned.sheets, scanned.quoted) as copy:
        try:
            pairs = binary.show_config(server, copy.path, "uwsgi", env)
        except CheckError as exc:
            raise CheckError(copy.spelled(str(exc))) from exc
        return copy.original(pairs)


def _located(pairs: Sequence[tuple[str, str]], scanned: Resolved) -> Resolved:
    """Return uWSGI's options, each with the line that our own reader saw it on."""
    exact: dict[tuple[str, str], deque[Option]] = defaultdict(deque)
    by_key: dict[str, deque[Option]] = defaultdict(deque)
    for option in scanned.options:
        exact[option.key, option.value].append(option)
        by_key[option.key].append(option)
    options = []
    for key, value in pairs:
        origin = exact[key, value].popleft() if exact[key, value] else None
        if origin is None and by_key[key]:
            origin = by_key[key][-1]
        options.append(
            Option(
                key,
                value,
                origin.file if origin else scanned.file,
                origin.line if origin else None,
                inherited=origin.inherited if origin else False,
            )
        )
    return Resolved(scanned.file, scanned.section_line, tuple(options))


def _python_version(
    given: str | None, found: binary.Server | None
) -> tuple[tuple[int, int] | None, str]:
    if given is not None:
        match = re.fullmatch(r"(\d+)\.(\d+)(\.\S+)?", given)
        if match is None:
            raise CheckError(f"--python takes a version such as 3.13, not {given!r}")
        return (int(match[1]), int(match[2])), ""
    if found is not None and found.python is not None:
        return found.python, ""
    here = sys.version_info[:2]
    return here, (
        f"The server's Python is not known: {here[0]}.{here[1]} is taken, the one that runs "
        "this check. --python names another."
    )


def _used_placeholders(values: Collection[str]) -> frozenset[str]:
    """Return the keys that some value uses as ``%(key)``, which are legitimate names."""
    return frozenset(
        word for v in values for m in re.findall(r"%\(([^()]+)\)", v) for word in m.split()
    )
