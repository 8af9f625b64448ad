"""Whatever comes in from outside is taken or refused as documented, and in bounded time."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import re
import string
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from unittest import mock
from urllib.parse import quote

import msgspec
import pytest
import redis
from hypothesis import event, given
from hypothesis import strategies as st

from uwsgi_waffle import NotifierError
from uwsgi_waffle.checks import CheckError, Report, binary, check_file
from uwsgi_waffle.checks.copying import private_copy
from uwsgi_waffle.checks.reader import read
from uwsgi_waffle.ini import SNIPPETS, snippet_path
from uwsgi_waffle.legacy import LegacyError
from uwsgi_waffle.masking import redact
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers import redis as redis_notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.reporting.last_known import LastKnownFile
from uwsgi_waffle.settings.declarations import Declaration, differ
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import advance, initial_snapshot

from .legacy.test_legacy_fuzz import READER, only_plain
from .notifiers.test_redis_notifier import SUBSCRIBED, FakeClient, told
from .support.hypothesis_profiles import effort
from .support.legacy_corpus import b64
from .support.rig import CONFS, Clock

pytestmark = pytest.mark.slow

# Far more than any input here needs on a machine that is busy otherwise.
LIMIT_S = 5.0


@contextmanager
def bounded(limit_s: float = LIMIT_S) -> Iterator[None]:
    began = time.process_time()
    yield
    took_s = time.process_time() - began
    assert took_s < limit_s, f"it took {took_s:.1f} s"


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="waffle-fuzz-") as folder:
        yield Path(folder).resolve()


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**30, 10**400]),
        st.floats(),
        st.text(max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


def as_json(value: object) -> bytes:
    # Unlike msgspec it writes what is no JSON, too: NaN, half of a surrogate pair.
    return json.dumps(value).encode("utf-8", "surrogatepass")


# --- messages of Redis ------------------------------------------------------------------------

REVISIONS = st.one_of(st.integers(), st.floats(), st.text(max_size=6), st.none(), st.booleans())
DATA = st.one_of(
    st.binary(max_size=60),
    # Well-formed, but for texts that may be no UTF-8.
    st.builds(
        lambda field, text: b'{"revision":7,"%s":"%s"}' % (field, text),
        st.sampled_from([b"epoch", b"mark", b"rows", b"host"]),
        st.binary(max_size=20),
    ),
    st.text(max_size=30),
    st.none(),
    st.integers(),
    JSON.map(as_json),
    st.builds(
        lambda revision, more: as_json({**more, "revision": revision}),
        REVISIONS,
        st.dictionaries(st.text(max_size=5), REVISIONS, max_size=2),
    ),
    st.builds(
        lambda revision, epoch, rows: as_json({"revision": revision, "epoch": epoch, "rows": rows}),
        st.integers(),
        st.one_of(st.none(), st.text(max_size=5)),
        st.one_of(JSON, st.lists(st.tuples(st.text(max_size=5), REVISIONS), max_size=3)),
    ),
    st.sampled_from(
        [b"[" * 5000, b'{"revision":' * 2000, b"1" * 5000, b'{"revision":' + b"9" * 5000 + b"}"]
    ),
)
KINDS = st.sampled_from(
    ["message", "pmessage", "subscribe", "unsubscribe", "pong", "", "invalidate"]
)
MESSAGES = st.one_of(
    DATA.map(told),
    st.builds(lambda kind, data: {"type": kind, "channel": b"c", "data": data}, KINDS, DATA),
)
FAULTS = st.sampled_from(
    [
        redis.ConnectionError("gone"),
        redis.TimeoutError("slow"),
        redis.ResponseError("WRONGPASS"),
        redis.exceptions.InvalidResponse("Protocol Error: b'x'"),
        OSError(9, "Bad file descriptor"),
        ValueError("I/O operation on closed file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ]
)


@effort(60)
@given(st.lists(st.lists(st.one_of(MESSAGES, FAULTS), max_size=6), max_size=5), st.integers(0))
def test_whatever_redis_sends_a_later_good_message_is_heard(
    bursts: list[list[Any]], revision: int
) -> None:
    clock, client = Clock(), FakeClient()
    with mock.patch.object(redis_notifier, "make_client", return_value=client):
        notifier = RedisNotifier("redis://db1", "c", clock=clock)
    for burst in [*bursts, [SUBSCRIBED]]:
        clock.advance(3.0)
        with suppress(NotifierError):
            notifier.wait(0.0)
        client.pubsubs[-1].messages.extend(burst)
        # Each fault ends one wait, and the next subscription knows nothing of the rest.
        for _ in range(len(burst) + 1):
            clock.advance(3.0)
            with bounded():
                try:
                    notice = notifier.wait(0.0)
                except NotifierError:
                    continue
            assert notice is None or notice.revision is None or type(notice.revision) is int
    client.pubsubs[-1].messages.append(told(b'{"revision":%d}' % min(revision, 10**18)))
    assert notifier.wait(0.0) == Notice(min(revision, 10**18))
    assert client.pubsubs[-1].timeouts
    notifier.close()


# --- the ini checker --------------------------------------------------------------------------

_KEYS = """
    master lazy-apps need-app enable-threads lazy_apps processes set a b set-ph
    set-placeholder for endfor for-times for-glob for-readline if-env if-not-env end endif
    if-opt if-exists if-file if-dir if-hostname if-hostname-match if-plugin if-reload
    ifdir ini include inherit plugin vacuum pidfile gevent mount module
    py-call-osafterfork socket emperor exec
"""
_BITS = """
    true false 1 0 %(a) %(b) %(_) %(%(a)) $(HOME) $(FUZZ) @(part.ini) @(exec://x) %d %n %%
    % a=b set=a=b = : part.ini :other part.ini:other loop.ini exec://x part.* [a- (a+)+$
    a{99999999999} 3 10000 99999999999999999999 | & ; # [uwsgi]
"""
_PLAIN = """
    true 1 %(name) %(place) %(d) %(1 name + 2) %(%(name)) %(ini) $(HOME) $(NONE) %% %d %n a=b : ; #
"""
_SCHEMES = """
    redis rediss unix postgresql postgresql+psycopg mysql+pymysql mariadb mysql
"""

REPOSITORY = Path(__file__).parent.parent
REAL = [
    *(snippet_path(name).read_text() for name in SNIPPETS),
    (REPOSITORY / "uwsgi.ini.example").read_text(),
]
NAMES = st.sampled_from(_KEYS.split())
VALUES = st.lists(
    st.one_of(
        st.sampled_from(_BITS.split()),
        st.text(max_size=6),
    ),
    max_size=4,
).map("".join)
LINES = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("{}={}".format, NAMES, VALUES),
    st.sampled_from(["[uwsgi]", "[other]", "[", "[]", "endfor", "endif", "", "; x", "# x", "a%"]),
    st.text(max_size=30),
)


def mutated(text: str) -> st.SearchStrategy[str]:
    def edit(edits: list[tuple[int, int, str]]) -> str:
        lines = text.split("\n")
        for at, removed, line in edits:
            at %= len(lines) + 1
            lines[at : at + removed] = [line]
        return "\n".join(lines)

    return st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), LINES), max_size=6).map(edit)


INIS = st.one_of(
    st.lists(LINES, max_size=12).map(lambda lines: "\n".join(["[uwsgi]", *lines])),
    st.sampled_from(REAL).flatmap(mutated),
    st.text(max_size=60).map("[uwsgi]\n{}".format),
)


@pytest.fixture(scope="module")
def ini_folder(module_folder: Path) -> Path:
    (module_folder / "part.ini").write_text("[uwsgi]\nb = %(a)\n[other]\na = 2\n")
    (module_folder / "loop.ini").write_text("[uwsgi]\nini = loop.ini\n")
    (module_folder / "large.ini").write_text("[uwsgi]\n" + ("; " + "x" * 1000 + "\n") * 4000)
    (module_folder / "deep.ini").write_text("[uwsgi]\nset = " + "set=" * 3000 + "\n")
    return module_folder


@contextmanager
def within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def check_without_server(folder: Path, name: str, env: dict[str, str]) -> Report:
    no_server = mock.patch.object(binary, "find_binary", return_value=None)
    with within(folder), no_server:
        return check_file(name, env=env)


ENVIRONMENT = {
    "HOME": "/root",
    "FUZZ": "%(a)$(FUZZ)",
    "TWICE": "$(TWICE)$(TWICE)",
    "SELF": "x$(SELF)",
}


def check(folder: Path, content: bytes) -> Report | None:
    """Return the report of the built-in reader, or ``None`` for a refusal."""
    (folder / "fuzzed.ini").write_bytes(content)
    with bounded():
        try:
            report = check_without_server(folder, "fuzzed.ini", ENVIRONMENT)
        except CheckError:
            event("refused")
            return None
    event("reported")
    assert report.parser == "built-in"
    return report


@effort(150)
@given(text=INIS)
def test_any_ini_gives_a_report_or_a_refusal(ini_folder: Path, text: str) -> None:
    check(ini_folder, text.encode("utf-8", "surrogatepass"))


@effort(40)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_report_or_a_refusal(ini_folder: Path, content: bytes) -> None:
    check(ini_folder, content)
    check(ini_folder, b"[uwsgi]\n" + content)


@pytest.mark.parametrize(
    "lines",
    {
        "number too long": ["for-times = " + "9" * 5000, "a = 1", "endfor"],
        "pattern too large": ["if-hostname-match = a{99999999999}", "a = 1", "endif"],
        "pattern that warns": ["if-hostname-match = [[a]", "a = 1", "endif"],
        "name too long": ["a = @(" + "x" * 5000 + ")"],
        "path in a file": ["a = @(part.ini/x)", "if-file = part.ini/x", "b = 1", "endif"],
        "set of a set": ["set = " + "set=" * 3000],
        "set of a set, inherited": ["inherit = deep.ini"],
        "doubled again and again": ["a = %(a)%(a)"],
        "doubled and often": ["a = %(a)%(a)", "for-times = 10000", "x = %(a)", "endfor"],
        "grown step by step": [f"a{n} = %(a{n + 1})%(a{n + 1})" for n in range(40)],
        "many names": ["for-times = 10000", "x = %(last)%(last)%(last)", "endfor", "last = 1"],
        "doubled environment": ["a = $(TWICE)"],
        "environment of itself": ["a = x$(SELF)"],
        "magic variables": ["a = " + "%p" * 1_000_000],
        "large file again and again": ["for-times = 10000", "ini = large.ini", "endfor"],
        "file again and again": ["for-times = 10000", "ini = part.ini", "endfor"],
        "lines of a large file": ["for-readline = large.ini", "a = 1", "b = %(_)", "endfor"],
        "lines of an endless file": ["for-readline = /dev/zero", "a = 1", "endfor"],
        "quoted large files": [f"a{n} = @(large.ini)" for n in range(100)],
        "pattern of everything": ["for-glob = /*/*/*/*/*/*", "a = 1", "endfor"],
    }.items(),
    ids=lambda item: item[0].replace(" ", "-"),
)
def test_hard_ini_is_read_or_refused_in_bounded_time(
    ini_folder: Path, lines: tuple[str, list[str]]
) -> None:
    (ini_folder / "hard.ini").write_text("[uwsgi]\n" + "\n".join(lines[1]) + "\n")
    tracemalloc.start()
    try:
        with bounded(10.0), suppress(CheckError):
            check_without_server(ini_folder, "hard.ini", ENVIRONMENT)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


# What both parsers read alike by the documentation: the grammar leaves out what only uWSGI knows.
PLAIN_VALUES = st.lists(
    st.one_of(
        st.sampled_from(_PLAIN.split()),
        st.text(string.ascii_letters + string.digits + " ./=-_", max_size=6),
    ),
    max_size=4,
).map("".join)
PLAIN_LINES = st.lists(
    st.one_of(
        st.builds(
            "{} = {}".format,
            st.sampled_from(["a", "c", "set-ph = d", "set-placeholder = d"]),
            PLAIN_VALUES,
        ),
        st.sampled_from(["a = @(one.txt)", "a = x @(one.txt) %d", "set = b=%(name)"]),
        st.builds("for = {}\nc = %(_)x\nendfor".format, st.sampled_from(["", "x", "x y  z"])),
        st.builds(
            "if-env = {}\nc = %(_)\nendif".format, st.sampled_from(["HOME", "NONE", "NONE=1"])
        ),
        st.builds("for-times = {}\nini = more.ini\nendfor".format, st.sampled_from(["0", "2"])),
        st.builds(
            "if-opt = {}\nc = %(_)\nendif".format, st.sampled_from(["ini", "place", "a=1", "d"])
        ),
        st.sampled_from(["set = ini=more.ini", "ini = :other", "ini = more.ini:other"]),
        st.sampled_from(["[other]", "[uwsgi]", "ini = more.ini", "inherit = more.ini", "; x", ""]),
    ),
    min_size=1,
    max_size=8,
)


@effort(15)
@given(lines=PLAIN_LINES)
def test_the_built_in_reader_sees_what_uwsgi_sees(module_folder: Path, lines: list[str]) -> None:
    uwsgi_path = binary.find_binary(None, os.environ)
    if uwsgi_path is None:
        pytest.skip("uWSGI is not installed")
    env = {"HOME": "/root", "PATH": os.environ["PATH"]}
    uwsgi = binary.Server(uwsgi_path, "", None, frozenset(), False)
    (module_folder / "one.txt").write_text("one\n")
    (module_folder / "more.ini").write_text("[uwsgi]\nplace = %(name)\n[other]\na = 2\n")
    (module_folder / "plain.ini").write_text("[uwsgi]\nname = x\n" + "\n".join(lines) + "\n")
    with within(module_folder):
        resolved = read("plain.ini", env=env)
        assert not resolved.hazards
        theirs = binary.show_config(uwsgi, "plain.ini", "uwsgi", env)
        with private_copy(resolved.sheets, resolved.quoted) as copy:
            copied = copy.original(binary.show_config(uwsgi, copy.path, "uwsgi", env))
    assert [(option.key, option.value) for option in resolved.options] == theirs
    assert copied == theirs


# --- what Flask-WaffleConf stored -------------------------------------------------------------

_ARGUMENTS = {
    "uint1": st.integers(0, 255).map(lambda n: bytes([n])),
    "decimalnl_short": st.integers(-5, 300).map(lambda n: b"%d\n" % n),
    "decimalnl_long": st.integers(-5, 300).map(lambda n: b"%dL\n" % n),
    "floatnl": st.floats().map(lambda n: repr(n).encode() + b"\n"),
    "stringnl": st.sampled_from([b"'a'\n", b"'\\xff'\n", b"a\n"]),
    "stringnl_noescape": st.sampled_from([b"a\n", b"\n"]),
    "stringnl_noescape_pair": st.sampled_from(
        [
            b"os\nsystem\n",
            b"uuid\nUUID\n",
            b"datetime\ndatetime\n",
            b"builtins\nset\n",
            b"collections\nOrderedDict\n",
            b"decimal\nDecimal\n",
            b"_codecs\nencode\n",
            b"copy_reg\n_reconstructor\n",
            b"__builtin__\nobject\n",
        ]
    ),
    "unicodestringnl": st.sampled_from([b"a\n", b"\\u0041\n", b"int\n"]),
    "unicodestring1": st.sampled_from([b"\x03int", b"\x00", b"\x0201", b"\x06latin1"]),
    "unicodestring4": st.sampled_from([b"\x03\0\0\0int", b"\xff\xff\xff\xff"]),
    "string1": st.sampled_from(
        [b"\x01a", b"\x03int", b"\x0a" + b"\x07\xe0\x0c\x1f\x17;:\0\x03\xe7"]
    ),
    "bytes1": st.sampled_from([b"\x00", b"\x04\x07\xe0\x02\x1d", b"\xff"]),
    "long1": st.sampled_from([b"\x00", b"\x01\x05", b"\x02\xff\xff"]),
    "float8": st.binary(min_size=8, max_size=8),
    "uint2": st.binary(min_size=2, max_size=2),
    "int4": st.binary(min_size=4, max_size=4),
    "uint4": st.sampled_from([b"\0\0\0\0", b"\x05\0\0\0", b"\xff\xff\xff\x7f"]),
    "uint8": st.sampled_from([b"\x05" + b"\0" * 7, b"\xff" * 8]),
}


def _opcode(opcode: pickletools.OpcodeInfo) -> st.SearchStrategy[bytes]:
    code = opcode.code.encode("latin-1")
    if opcode.arg is None:
        return st.just(code)
    argument = _ARGUMENTS.get(opcode.arg.name, st.binary(max_size=12))
    return argument.map(code.__add__)


OPCODES = st.one_of([_opcode(opcode) for opcode in pickletools.opcodes if opcode.name != "STOP"])
FRAGMENTS = st.one_of(
    OPCODES,
    st.sampled_from([b"(", b"]", b"}", b")", b"t", b"\x85", b"\x86", b"a", b"s", b"u", b"e", b"R"]),
    st.sampled_from(
        [
            pickle.dumps([1, {"a": (2.5, "x")}], 2)[2:-1],
            b"cuuid\nUUID\n)\x81",
            b"}X\x03\0\0\0intK\x01sb",
        ]
    ),
)


@pytest.mark.slow
@effort(300)
@given(opcodes=st.lists(FRAGMENTS, min_size=1, max_size=25))
def test_any_sequence_of_opcodes_gives_a_value_or_a_refusal(opcodes: list[bytes]) -> None:
    text = b64(b"\x80\x04" + b"".join(opcodes) + b".")
    refusal, value = "", None
    with bounded():
        try:
            value = READER.decode(text)
        except LegacyError as exc:
            refusal = str(exc)
    event("refused" if refusal else "read")
    # The guard behind the unpickler never had to act.
    assert "it tries" not in refusal
    assert only_plain(value)


@effort(10)
@given(
    opcodes=st.lists(FRAGMENTS, min_size=1, max_size=8),
    times=st.sampled_from([1_000, 20_000]),
    end=st.sampled_from([b"", b"t", b"l", b"\x85" * 2_000, b"e" * 500]),
)
def test_long_pickle_takes_bounded_time_and_memory(
    opcodes: list[bytes], times: int, end: bytes
) -> None:
    text = b64((b"(" + b"".join(opcodes) * times)[:180_000] + end + b".")
    tracemalloc.start()
    try:
        # The child holds to its own limits; this is what its answer costs here.
        with bounded(20.0), suppress(LegacyError):
            READER.decode(text)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


# --- values of settings -----------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    width: int
    height: int = 1
    note: str | None = None


TYPES: list[tuple[Any, Any]] = [
    (int, 1),
    (float, 1.5),
    (bool, True),
    (str, "x"),
    (bytes, b"x"),
    (Decimal, Decimal(1)),
    (date, date(2020, 1, 1)),
    (datetime, datetime(2020, 1, 1)),
    (timedelta, timedelta(1)),
    (list[int], []),
    (set[int], set()),
    (set[str], set()),
    (frozenset[tuple[str, int]], frozenset()),
    (tuple[int, str], (1, "a")),
    (dict[str, Any], {}),
    (list[Any], []),
    (Any, 1),
    (int | None, None),
    (Literal["on", "off"], "on"),
    (Size, Size(1)),
    (dict[int, float], {}),
]


def declared(type_: Any, default: Any, **more: Any) -> Declaration:
    return declare({"X": {"desc": "x", "default": default, "type": type_, **more}})["X"]


DECLARATIONS = [
    *(declared(type_, default) for type_, default in TYPES),
    *(declared(type_, default, secret=True) for type_, default in TYPES),
    declared(int, 5, min=1, max=10),
    declared(float, 5.0, min=1, max=10),
    declared(Decimal, Decimal(5), min=Decimal(1), max=Decimal(10)),
    declared(datetime, datetime(2020, 1, 1), min=datetime(2000, 1, 1)),
    declared(str, "a", choices=["a", "b"]),
    declared(int, 1, choices={1, 2}),
    declared(Any, 1, choices=frozenset({1, 2})),
]
PYTHON = st.one_of(
    JSON,
    st.binary(max_size=8),
    st.decimals(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.times(),
    st.uuids(),
    st.complex_numbers(),
    st.tuples(st.integers(), st.text(max_size=3)),
    st.frozensets(st.integers(), max_size=3),
    st.frozensets(st.text(max_size=3), max_size=5),
    st.frozensets(st.tuples(st.text(max_size=3), st.integers()), max_size=5),
    st.builds(Size, st.integers(), st.integers()),
    st.sampled_from([object(), int, ..., range(3), re.compile("a"), 10**5000]),
    st.integers(1, 3000).map(lambda depth: nested(depth)),
)
TEXTS = st.one_of(
    JSON.map(lambda value: as_json(value).decode("utf-8", "surrogatepass")),
    st.text(max_size=30),
    st.sampled_from(
        [
            "[" * 5000,
            "9" * 5000,
            '{"a":' * 5000,
            "P99999999999D",
            "9999-12-31T23:59:59-23:59",
            "1e999999",
            "sNaN",
            "NaN",
            "Infinity",
            "-0",
            "\ud800",
            '"\\ud800"',
            "0001-01-01T00:00:00+23:59",
            '{"width":1}',
            "on",
            "1.",
            "\u0661",
            " 5 ",
            "P1D",
            "-P1D",
            "1e400",
        ]
    ),
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@effort(250)
@given(declaration=st.sampled_from(DECLARATIONS), value=PYTHON)
def test_any_value_is_encoded_and_comes_back_or_is_refused(
    declaration: Declaration, value: Any
) -> None:
    try:
        raw = declaration.encode(value)
    except ValueError:
        event("refused")
        return
    event("encoded")
    decoded = declaration.decode(raw)
    assert not differ(decoded, msgspec.convert(value, declaration.type))
    assert declaration.encode(decoded) == raw


@effort(250)
@given(declaration=st.sampled_from(DECLARATIONS), text=TEXTS)
def test_any_text_is_parsed_or_refused(declaration: Declaration, text: str) -> None:
    for read_text in (declaration.decode, declaration.parse):
        try:
            value = read_text(text)
        except ValueError:
            event("refused")
            continue
        event("read")
        if read_text == declaration.parse:
            assert not differ(declaration.decode(declaration.encode(value)), value)


# --- files ------------------------------------------------------------------------------------


@effort(80)
@given(
    content=st.one_of(
        st.binary(max_size=100),
        st.lists(st.one_of(st.integers(), st.integers(0, 9)), max_size=4).map(
            lambda numbers: " ".join(map(str, numbers)).encode()
        ),
        st.sampled_from([b"9" * 5000, b"1" * 64, b"\xd9\xa1", b"\0" * 70, b"7\n" + b"8" * 70]),
    )
)
def test_any_content_of_the_watch_file_is_read(module_folder: Path, content: bytes) -> None:
    path = module_folder / "any.watch"
    path.write_bytes(content)
    notifier = FileNotifier(path)
    mark = notifier.mark()
    assert mark.signature is not None
    assert mark.revision is None or mark.revision >= 0
    # And it is announced over whatever there was.
    notifier.announce(7)
    announced = FileNotifier(path).mark()
    assert notifier.mark() == announced
    assert (announced.revision, announced.touch) == (7, mark.touch)
    assert announced.signature != mark.signature


KEPT: dict[str, Any] = {
    "format": 1,
    "store": "s",
    "revision": 3,
    "epoch": "e",
    "raws": {"LIMIT": "5"},
}


@effort(80)
@given(
    content=st.one_of(
        st.binary(max_size=100),
        JSON.map(as_json),
        st.builds(
            lambda key, value: as_json({**KEPT, key: value}),
            st.sampled_from([*KEPT, "more"]),
            st.one_of(JSON, st.dictionaries(st.sampled_from(["LIMIT", "SITENAME", "X"]), TEXTS)),
        ),
        st.sampled_from([b"[" * 5000, b"", b"\0", as_json(KEPT)[:-1], as_json(KEPT) * 2]),
    )
)
def test_any_file_of_last_known_values_is_ignored_or_served(
    module_folder: Path, content: bytes
) -> None:
    declarations = declare(CONFS)
    last_good = LastKnownFile(module_folder / "w", app="a", store="s", declarations=declarations)
    last_good.path.write_bytes(content)
    last_good.path.chmod(0o600)
    known = last_good.load()
    if known is None:
        event("ignored")
        return
    event("served")
    snapshot = advance(initial_snapshot(declarations), known.delta, declarations)
    assert snapshot.by_name.keys() == CONFS.keys()
    assert all(type(snapshot[name]) is type(spec["default"]) for name, spec in CONFS.items())


# --- passwords --------------------------------------------------------------------------------

# Long enough that it does not stand in the rest of a text by accident.
PASSWORDS = st.text(
    st.characters(
        min_codepoint=33,
        max_codepoint=0x2FF,
        exclude_characters="\xa0",
        exclude_categories=["Cc", "Zs", "Cf"],
    ),
    min_size=1,
    max_size=12,
).map(lambda text: f"Qq7{text}7qQ")
SCHEMES = st.sampled_from(_SCHEMES.split())


@effort(150)
@given(
    scheme=SCHEMES,
    user=st.sampled_from(["", "ann", "a%40b", "a.b-c"]),
    password=PASSWORDS,
    quoted=st.booleans(),
    rest=st.sampled_from(
        ["db1", "db1:6379/0", "[::1]:5432/x", "/run/redis.sock?db=1", "", "db/x?a=b@c"]
    ),
    frame=st.sampled_from(
        ["{}", "Redis at {} can't be used", "'{}', '{}'", "({}): check", "{}\n{}"]
    ),
)
def test_password_of_a_url_is_never_shown(
    scheme: str, user: str, password: str, quoted: bool, rest: str, frame: str
) -> None:
    written = quote(password, safe="") if quoted else password
    shown = redact(frame.replace("{}", f"{scheme}://{user}:{written}@{rest}"))
    assert written not in shown
    assert "Qq7" not in shown


@effort(80)
@given(
    url=st.sampled_from(
        ["unix:///run/r.sock?{}={}", "redis://db1/0?db=1&{}={}", "postgresql:///x?{}={}&a=b"]
    ),
    key=st.sampled_from(["password", "passwd", "sslpassword", "ssl_password", "ssl_key_password"]),
    password=PASSWORDS,
)
def test_password_of_a_query_is_never_shown(url: str, key: str, password: str) -> None:
    assert quote(password, safe="") not in redact(url.format(key, quote(password, safe="")))
