"""When each rule of the catalogue makes a finding."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from .binary import Server
from .catalogue import RULES
from .model import Finding, Option
from .vocabulary import (
    DEFAULT_APP,
    IMPLY_MASTER,
    IMPLY_THREADS,
    KNOWN,
    LAST_WINS,
    MOUNTS,
    PROMISED,
    is_true,
)

_THREADS_BY_DEFAULT = (2, 0, 27)
_BY_ID = {rule.id: rule for rule in RULES}


class Subject(msgspec.Struct, frozen=True):
    """The input of the rules.

    :ivar server: None where no uWSGI is installed.
    :ivar python: the server's Python; None if not known.
    :ivar has_binary_path: UWSGI_BINARY_PATH is set.
    :ivar placeholders: names that are used as ``%(name)``.
    """

    options: tuple[Option, ...]
    file: str
    section_line: int
    server: Server | None = None
    python: tuple[int, int] | None = None
    has_binary_path: bool = False
    placeholders: frozenset[str] = frozenset()

    def last(self, *keys: str) -> Option | None:
        """Return the occurrence that wins among some spellings of one option."""
        return next((o for o in reversed(self.options) if o.key in keys), None)

    @property
    def is_emperor(self) -> bool:
        """Return whether it starts other servers, and serves no app itself."""
        apps = DEFAULT_APP | MOUNTS
        return self.last("emperor") is not None and not any(o.key in apps for o in self.options)

    def is_on(self, key: str) -> bool:
        """Return whether a boolean option is on."""
        option = self.last(key)
        return option is not None and is_true(option.value)


def apply(subject: Subject) -> list[Finding]:
    """Return the findings, by file and line."""
    checks = _CHECKS_OF_AN_EMPEROR if subject.is_emperor else _CHECKS
    findings = [finding for check in checks for finding in check(subject)]
    here = subject.file
    return sorted(findings, key=lambda f: (f.file != here, f.file, f.line or 0, f.id))


def _found(
    subject: Subject, id_: str, option: str, at: Option | None = None, text: str = ""
) -> Finding:
    rule = _BY_ID[id_]
    line = at.line if at is not None else subject.section_line
    return Finding(
        id=id_,
        level=rule.level,
        message=rule.summary,
        detail=text,
        fix=rule.fix,
        file=at.file if at is not None else subject.file,
        line=subject.section_line if line is None else line,
        option=option,
    )


def _threads(subject: Subject) -> Iterator[Finding]:
    option = subject.last("enable-threads")
    if option is not None and is_true(option.value):
        return
    version = () if subject.server is None else subject.server.version_tuple
    if version >= _THREADS_BY_DEFAULT:
        if option is not None:
            yield _found(subject, "W013", "enable-threads", option)
        return
    # Source: UWSGI_OPT_THREADS acts when the option is read; an explicit false comes after.
    implied = option is None and any(o.key in IMPLY_THREADS for o in subject.options)
    if not implied and not _gevent(subject):
        yield _found(
            subject,
            "E001",
            "enable-threads",
            option,
            "Only uWSGI 2.0.27 and later have them on without being asked.",
        )


def _lazy_apps(subject: Subject) -> Iterator[Finding]:
    option = subject.last("lazy-apps")
    lazy = subject.last("lazy")
    if lazy is not None and is_true(lazy.value):
        yield _found(subject, "W003", "lazy", lazy)
    elif option is None:
        yield _found(subject, "W001", "lazy-apps")
    elif not is_true(option.value):
        yield _found(subject, "W002", "lazy-apps", option)


def _master(subject: Subject) -> Iterator[Finding]:
    option = subject.last("master")
    if option is None and any(o.key in IMPLY_MASTER for o in subject.options):
        return
    if option is None or not is_true(option.value):
        yield _found(subject, "E003", "master", option)


def _need_app(subject: Subject) -> Iterator[Finding]:
    if not subject.is_on("need-app"):
        yield _found(subject, "W004", "need-app", subject.last("need-app"))


def _interpreters(subject: Subject) -> Iterator[Finding]:
    default = [o for o in subject.options if o.key in DEFAULT_APP][:1]
    # Source: only a mount of the form /path=app loads an app of its own.
    mounts = [o for o in subject.options if o.key in MOUNTS and "=" in o.value]
    apps = default + mounts
    if len(apps) > 1 and not subject.is_on("single-interpreter"):
        at = subject.last("single-interpreter") or apps[1]
        # Source: measured; Py_EndInterpreter refuses while a thread of the interpreter lives.
        id_ = "E006" if (subject.python or (0, 0)) >= (3, 13) else "W005"
        yield _found(subject, id_, "single-interpreter", at, f"Apps: {len(apps)}.")


def _fork_hook(subject: Subject) -> Iterator[Finding]:
    if subject.is_on("py-call-osafterfork") and (subject.python or (0, 0)) >= (3, 13):
        yield _found(subject, "E004", "py-call-osafterfork", subject.last("py-call-osafterfork"))


def _pyuwsgi_reload(subject: Subject) -> Iterator[Finding]:
    server = subject.server
    if server is None or not server.needs_binary_path or subject.has_binary_path:
        return
    if subject.last("binary-path") is None:
        python = Path(server.path).with_name("python")
        yield _found(subject, "W006", "binary-path", text=f"Here: `binary-path = {python}`.")


def _pyuwsgi_emperor(subject: Subject) -> Iterator[Finding]:
    server, emperor = subject.server, subject.last("emperor")
    if server is None or not server.needs_binary_path or emperor is None:
        return
    if subject.last("emperor-wrapper") is None:
        text = f"Here: `emperor-wrapper = {server.path}`."
        yield _found(subject, "E005", "emperor-wrapper", emperor, text)


def _async(subject: Subject) -> Iterator[Finding]:
    if _gevent(subject) or any(subject.last(loop) for loop in ("asyncio", "tornado", "greenlet")):
        return
    switch, cores = subject.last("ugreen"), subject.last("async")
    if switch is not None and is_true(switch.value):
        yield _found(subject, "W014", "ugreen", switch)
    elif cores is not None and cores.value.strip() not in {"0", "1"}:
        yield _found(subject, "W014", "async", cores)


def _inherit(subject: Subject) -> Iterator[Finding]:
    for key in sorted(LAST_WINS):
        option = subject.last(key)
        if option is None or not option.inherited:
            continue
        own = next((o for o in reversed(subject.options) if o.key == key and not o.inherited), None)
        if own is not None and not _same(own, option):
            yield _found(
                subject,
                "W007",
                key,
                own,
                f"`{key} = {option.value}` of {option.file}:{option.line} is what counts.",
            )


def _contradiction(subject: Subject) -> Iterator[Finding]:
    for key in sorted(PROMISED):
        winner = subject.last(key)
        # A winner that is off, or inherited, has its own rule.
        if winner is None or winner.inherited or not is_true(winner.value):
            continue
        loser = next((o for o in subject.options if o.key == key and not _same(o, winner)), None)
        if loser is not None:
            yield _found(
                subject,
                "W012",
                key,
                loser,
                f"`{key} = {winner.value}` of {winner.file}:{winner.line} is what counts.",
            )


def _same(one: Option, other: Option) -> bool:
    if one.key in PROMISED:
        return is_true(one.value) == is_true(other.value)
    return one.value == other.value


def _gevent(subject: Subject) -> bool:
    option = subject.last("gevent")
    return option is not None and option.value.strip() != "0"


def _gevent_patch(subject: Subject) -> Iterator[Finding]:
    if not _gevent(subject) or subject.is_on("gevent-early-monkey-patch"):
        return
    if subject.is_on("gevent-monkey-patch"):
        yield _found(subject, "W008", "gevent-monkey-patch", subject.last("gevent-monkey-patch"))
    else:
        yield _found(subject, "W009", "gevent", subject.last("gevent"))


def _names(subject: Subject) -> Iterator[Finding]:
    known = KNOWN | (subject.server.options if subject.server is not None else frozenset())
    seen = set()
    for option in subject.options:
        key = option.key
        if key in known or key in subject.placeholders or key in seen:
            continue
        seen.add(key)
        dashed = key.replace("_", "-")
        if dashed in known:
            id_ = "E002" if dashed in PROMISED else "W010"
            yield _found(subject, id_, key, option, f"`{key}` is no option, `{dashed}` is.")
        elif near := difflib.get_close_matches(dashed.lower(), PROMISED, n=1, cutoff=0.85):
            yield _found(subject, "W011", key, option, f"Is `{key}` meant to be `{near[0]}`?")


_CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _threads,
    _lazy_apps,
    _master,
    _need_app,
    _interpreters,
    _fork_hook,
    _pyuwsgi_reload,
    _inherit,
    _contradiction,
    _gevent_patch,
    _names,
    _pyuwsgi_emperor,
    _async,
)
#: for a file that serves no app
_CHECKS_OF_AN_EMPEROR = (_pyuwsgi_emperor, _pyuwsgi_reload)
