"""Rows of Flask-WaffleConf are read as plain data, and nothing they hold is ever run."""

from __future__ import annotations

import collections
import pickle
import pickletools
import resource
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import WaffleError
from uwsgi_waffle.legacy import LegacyError, decode, decode_legacy
from uwsgi_waffle.legacy.limits import MAX_TEXT_LENGTH

from ..support.legacy_corpus import CASES, PLAIN, PROTOCOLS, PYTHON_2, Watch, b64, damaged, hostile


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:40])
def test_a_plain_value_comes_back_as_it_was(value: Any, protocol: int) -> None:
    for data in (pickle.dumps(value, protocol), pickle._dumps(value, protocol)):  # type: ignore[attr-defined]
        for variant in (data, pickletools.optimize(data)):
            decoded = decode_legacy(b64(variant))
            assert decoded == value
            assert type(decoded) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_ordered_dict_comes_as_a_dict_in_its_order(protocol: int) -> None:
    value = collections.OrderedDict([("z", 1), ("a", [2])])
    decoded = decode_legacy(b64(pickle.dumps(value, protocol)))
    assert type(decoded) is dict
    assert list(decoded.items()) == [("z", 1), ("a", [2])]


@pytest.mark.parametrize(("value", "zero", "two"), PYTHON_2, ids=lambda value: repr(value)[:20])
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


def test_a_hostile_or_damaged_pickle_is_refused_and_nothing_runs(
    tmp_path: Path,
) -> None:
    marker = tmp_path / "ran"
    watch = Watch()
    count = 0
    for name, data in [*hostile(marker), *damaged()]:
        with pytest.raises(LegacyError) as caught:
            print(name, watch.decode(b64(data)))
        assert "nowhere" not in str(caught.value), name
        assert str(marker) not in str(caught.value), name
        count += 1
    assert not marker.exists()
    assert watch.seen == []
    assert count > 1000


def test_without_the_scan_the_unpickler_still_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "scan", lambda data: False)
    marker = tmp_path / "ran"
    watch = Watch()
    refused = 0
    for _, data in hostile(marker):
        try:
            watch.decode(b64(data))
        except LegacyError:
            refused += 1
    assert refused > 1000
    assert not marker.exists()
    assert watch.seen == []
    for value in (Decimal("1.5"), uuid.UUID(int=5), {1}, bytearray(b"x"), b"\xff"):
        assert decode_legacy(b64(pickle.dumps(value, 0))) == value


def test_the_corpus_would_do_harm_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = dict(hostile(marker))["os.system 2"]
    pickle.loads(data)
    assert marker.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os.system 4", "it refers to posix.system, which is not on the list of plain types"),
        ("persistent id", "it uses the opcode PERSID, which plain data does not need"),
        ("ext1", "it uses the opcode EXT1, which plain data does not need"),
        ("UUID of a text", "it calls uuid.UUID in a way that no plain value does"),
        ("build on a decimal", "it sets attributes of an object"),
        ("build twice by the memo", "it calls uuid.UUID in a way that no plain value does"),
        ("call of a text", "it calls what is no plain type"),
        ("after its end", "it goes on after its end"),
        ("large frame", "it is cut off"),
        ("deep tuple", "it is nested more than 100 levels deep, or holds itself"),
        ("billion laughs", "it holds too much"),
        ("old string, not UTF-8", "it holds a string of Python 2 that is not UTF-8"),
        ("large place of the memo", "it is damaged: it skips a place of the memo"),
        ("newer protocol", "it is of protocol 6, newest known is 5"),
        ("no pickle", "it is no pickle"),
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
    with pytest.raises(LegacyError, match=r"it is (not base64|empty)|no pickle"):
        decode_legacy(bad)


def test_a_text_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(LegacyError, match="more than 262144 characters"):
        decode_legacy("A" * (MAX_TEXT_LENGTH + 1))
    longest = "x" * (MAX_TEXT_LENGTH * 3 // 4 - 20)
    assert decode_legacy(b64(pickle.dumps(longest))) == longest


def test_no_text_takes_long_or_much_memory() -> None:
    # The worst that is known: keys that all have one hash.
    flood = pickle.dumps({(2**61 - 1) * number: None for number in range(13_000)}, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    decode_legacy(b64(flood))
    assert time.monotonic() - started < 20
    for _, data in damaged():
        with pytest.raises(LegacyError):
            decode_legacy(b64(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
