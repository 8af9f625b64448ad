"""Whatever is stored, reading it gives a plain value or a refusal, and runs nothing."""

from __future__ import annotations

import collections
import contextlib
import pickle
import pickletools
from collections.abc import Iterator
from datetime import timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uwsgi_waffle.legacy import LegacyError, LegacyReader
from uwsgi_waffle.legacy.child.limits import MAX_TEXT_LENGTH

from ..support.hypothesis_profiles import effort
from ..support.legacy_corpus import CASES, PLAIN, PROTOCOLS, b64

READER = LegacyReader()


@pytest.fixture(scope="module", autouse=True)
def _end_of_the_reader() -> Iterator[None]:
    yield
    READER.close()


def small_edits(data: bytes) -> st.SearchStrategy[bytes]:
    def edit(changes: list[tuple[int, int, bytes]]) -> bytes:
        edited = bytearray(data)
        for start, length, piece in changes:
            start %= len(edited) + 1
            edited[start : start + length] = piece
        return bytes(edited)

    codes = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
    pieces = st.one_of(codes, st.binary(max_size=3), st.sampled_from(NAMES))
    change = st.tuples(st.integers(0, 400), st.integers(0, 3), pieces)
    return st.lists(change, min_size=1, max_size=4).map(edit)


NAMES = [
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cuuid\nUUID\n",
    b"cdatetime\ndatetime\n",
    b")R",
    b"}b",
]
SEEDS = [data for _, data in CASES if len(data) < 400] + [
    pickle.dumps(value, protocol)
    for value in [*PLAIN[:44], collections.OrderedDict(a=1)]
    for protocol in PROTOCOLS
]
PLAIN_TYPES = {type(value) for value in PLAIN}
FUZZ = effort(150)


def only_plain(value: Any) -> bool:
    if type(value) not in PLAIN_TYPES:
        return False
    if isinstance(value, dict):
        return all(only_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(only_plain, value))
    return True


@pytest.mark.slow
@FUZZ
@given(data=st.one_of(st.sampled_from(SEEDS).flatmap(small_edits), st.binary(max_size=80)))
def test_any_bytes_give_a_plain_value_or_a_refusal(data: bytes) -> None:
    refusal = None
    value: Any = None
    try:
        value = READER.decode(b64(data))
    except LegacyError as exc:
        refusal = str(exc)
    # The guard behind the unpickler never had to act.
    assert "it tries" not in str(refusal)
    assert only_plain(value)


@pytest.mark.slow
@FUZZ
@given(text=st.text(max_size=60))
def test_any_text_gives_a_plain_value_or_a_refusal(text: str) -> None:
    with contextlib.suppress(LegacyError):
        assert only_plain(READER.decode(text))


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.datetimes(timezones=st.sampled_from([None, timezone.utc])),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
VALUES = st.recursive(
    st.one_of(ATOMS, st.frozensets(ATOMS, max_size=4), st.sets(ATOMS, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(ATOMS, inner, max_size=4),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@FUZZ
@given(value=VALUES, protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_value_round_trips(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assume(len(data) < MAX_TEXT_LENGTH // 2)
    assert READER.decode(b64(data)) == value
