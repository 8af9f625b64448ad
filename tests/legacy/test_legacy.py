"""Rows of Flask-WaffleConf are read as plain data, and nothing they hold is ever run."""

from __future__ import annotations

import collections
import pickle
import pickletools
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from uwsgi_waffle import WaffleError
from uwsgi_waffle.legacy import LegacyError, LegacyReader, decode_legacy
from uwsgi_waffle.legacy import reader as reader_module
from uwsgi_waffle.legacy.child.limits import MAX_TEXT_LENGTH, Refused
from uwsgi_waffle.legacy.reader import _start

from ..support.legacy_corpus import (
    CASES,
    ODD,
    PLAIN,
    PROTOCOLS,
    PYTHON_2,
    Watch,
    b64,
    damaged,
    hostile,
)

SETS = (set, frozenset)


@pytest.fixture(scope="module")
def reader() -> Iterator[LegacyReader]:
    with LegacyReader() as reader:
        yield reader


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value", PLAIN, ids=[f"{n}-{type(v).__name__}" for n, v in enumerate(PLAIN)]
)
def test_a_plain_value_comes_back_as_it_was(
    reader: LegacyReader, value: Any, protocol: int
) -> None:
    for data in (pickle.dumps(value, protocol), pickle._dumps(value, protocol)):  # type: ignore[attr-defined]
        for variant in (data, pickletools.optimize(data)):
            decoded = reader.decode(b64(variant))
            assert decoded == value
            # Equal, but another: -0.0, a fold, which protocols below 4 drop.
            assert protocol < 4 or repr(decoded) == repr(value) or isinstance(value, SETS)
            assert type(decoded) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_ordered_dict_comes_as_a_dict_in_its_order(protocol: int) -> None:
    value = collections.OrderedDict([("z", 1), ("a", [2])])
    decoded = decode_legacy(b64(pickle.dumps(value, protocol)))
    assert type(decoded) is dict
    assert list(decoded.items()) == [("z", 1), ("a", [2])]


@pytest.mark.parametrize(("value", "zero", "two"), PYTHON_2, ids=range(len(PYTHON_2)))
def test_a_pickle_of_python_2_is_read(value: Any, zero: str, two: str) -> None:
    for text in (zero, two):
        decoded = decode_legacy(text)
        assert decoded == value
        assert type(decoded) is type(value)


def test_a_text_may_come_as_bytes() -> None:
    assert decode_legacy(b"gAKILg==") is True


def test_what_is_shared_is_copied() -> None:
    row = [1]
    decoded = decode_legacy(b64(pickle.dumps([row, row])))
    decoded[0].append(2)
    assert decoded == [[1, 2], [1]]


def test_the_unpickler_alone_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    watch = Watch()
    refused = 0
    for name, data in hostile(marker):
        with pytest.raises(Refused):
            print(name, watch.decode(data))
        refused += 1
    assert refused > 1000
    assert not marker.exists()
    assert watch.seen == []


@pytest.mark.slow
def test_a_hostile_or_damaged_row_is_refused_within_the_limits(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    # One of each kind: the test above has every protocol, and each row needs a new process.
    cases = {name.rsplit(" ", 1)[0]: data for name, data in hostile(marker)}
    cases |= dict(damaged())
    assert len(cases) > 120
    with LegacyReader() as reader:
        for name, data in cases.items():
            with pytest.raises(LegacyError) as caught:
                print(name, reader.decode(b64(data)))
            # The guard behind the unpickler never had to act.
            assert "tries" not in str(caught.value), name
            assert str(marker) not in str(caught.value), name
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert usage.ru_maxrss < (256 + 64) * 1024, name  # KiB
    assert not marker.exists()


@pytest.mark.parametrize(("data", "value"), [case[1:] for case in ODD], ids=[c[0] for c in ODD])
def test_an_odd_pickle_of_a_plain_value_is_that_value(data: bytes, value: object) -> None:
    assert decode_legacy(b64(data)) == value


@pytest.mark.slow
def test_a_row_that_takes_all_time_is_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    data = dict(damaged())["billion laughs as a key"]
    with LegacyReader() as reader:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        with pytest.raises(LegacyError, match="it takes more than 2 s to read"):
            reader.decode(b64(data))
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 4
        assert reader.decode("gAKILg==") is True
    assert capfd.readouterr() == ("", "")


def test_one_process_reads_a_table_and_a_bad_row_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(_start())
        return started[-1]

    monkeypatch.setattr(reader_module, "_start", start)
    with LegacyReader() as reader:
        for _ in range(3):
            assert reader.decode("gAKILg==") is True
        # What is no base64 never reaches a process.
        with pytest.raises(LegacyError):
            reader.decode("50 00")
        assert len(started) == 1
        with pytest.raises(LegacyError):
            reader.decode(b64(b"Nope"))
        assert started[0].returncode is not None
        assert reader.decode("gAKILg==") is True
    assert [child.returncode is None for child in started] == [False, False]


def test_the_process_knows_nothing_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFFLE_LEGACY_URL", "postgresql://u:sesame@host/db")
    with LegacyReader() as reader:
        reader.decode("gAKILg==")
        child = reader._child
        assert child is not None
        process = psutil.Process(child.pid)
        assert "WAFFLE_LEGACY_URL" not in process.environ()
        # Neither the user's nor the site's packages, whose files could run code.
        assert process.cmdline()[1:3] == ["-I", "-S"]
        assert process.num_fds() <= 3
        assert not any("flask" in mapped.path for mapped in process.memory_maps())


def test_the_process_has_limits() -> None:
    with LegacyReader() as reader:
        reader.decode("gAKILg==")
        assert reader._child is not None
        process = psutil.Process(reader._child.pid)
        for limit in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE):
            assert process.rlimit(limit) == (0, 0)
        most = process.memory_info().vms + 256 * 1024 * 1024
        assert process.rlimit(psutil.RLIMIT_AS)[1] <= most + 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("harm", "event"),
    [
        ("open('/etc/passwd')", "open"),
        ("__import__('os').listdir('/')", "os.listdir"),
        ("eval('1')", "compile"),
        ("__import__('json.tool')", "import"),
    ],
)
def test_what_the_unpickler_would_let_through_is_refused_all_the_same(
    harm: str, event: str
) -> None:
    # As if it ran what a row says, and even caught what comes of it.
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import os, child.loop as loop\n"
        "def decode(data):\n"
        f"    try: {harm}\n"
        "    except Exception: pass\n"
        "loop.decode = decode\n"
        "loop.main()\n"
    )
    folder = str(Path(reader_module.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder],
        input="TlM=\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f'ready\n{{"refused": "it tries {event}"}}\n'


def test_a_python_that_does_not_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in (("/nowhere/python", "can't be started"), ("/bin/true", "at its start")):
        monkeypatch.setattr(sys, "executable", path)
        with pytest.raises(WaffleError, match=reason) as caught:
            decode_legacy("gAKILg==")
        # Not what is said of a bad row.
        assert not isinstance(caught.value, LegacyError)


def test_the_corpus_would_do_harm_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = dict(hostile(marker))["os.system 2"]
    pickle.loads(data)
    assert marker.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os.system 4", "it refers to posix.system, which is not a plain type"),
        ("persistent id", "it refers to an object outside of it"),
        ("ext1", "it can't be read (ValueError)"),
        ("UUID of a text", "it calls uuid.UUID in a way that no plain value does"),
        ("build on a global", "it sets attributes of datetime.datetime"),
        ("after its end", "it goes on after its end"),
        ("deep tuple", "it is nested more than 100 levels deep, or holds itself"),
        ("large text, often", "it holds too much"),
        ("old string, not UTF-8", "it holds a string of Python 2 that is not UTF-8"),
        ("large place of the memo", "it takes too much memory"),
        ("newer protocol", "it can't be read (ValueError)"),
        ("no pickle", "it can't be read (UnpicklingError)"),
    ],
)
def test_a_refusal_tells_why(name: str, reason: str) -> None:
    with pytest.raises(LegacyError) as caught:
        decode_legacy(b64(dict(CASES)[name]))
    assert str(caught.value) == reason
    assert isinstance(caught.value, WaffleError)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "5000",
        '"Shop"',
        "gAKILg",
        "gAKILg==\n",
        " gAKILg==",
        "gAKI Lg==",
        "gAKILh==",
        "gAKILg===",
        "é",
    ],
)
def test_a_text_that_is_not_strictly_base64_is_refused(bad: str) -> None:
    with pytest.raises(LegacyError, match=r"it is (not base64|empty)|it can't be read"):
        decode_legacy(bad)


def test_a_text_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(LegacyError, match="more than 262144 characters"):
        decode_legacy("A" * (MAX_TEXT_LENGTH + 1))
    longest = "x" * (MAX_TEXT_LENGTH * 3 // 4 - 20)
    assert decode_legacy(b64(pickle.dumps(longest))) == longest


def test_error_that_python_prints_by_itself_is_printed_nowhere() -> None:
    """As of a bytearray that could not be made: 3.13 would import a module to print it."""
    code = (
        "import io, sys; from uwsgi_waffle.legacy.child.loop import main\n"
        "sys.stdin = io.StringIO(''); main()\n"
        "sys.excepthook(SystemError, SystemError('exported buffers'), None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"ready\n", b"")
