"""Where each word stands in page and slots: processes of two releases may share them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.slots import NONE_HELD, UNKNOWN_HELD, Slots

IDENTITY = b"identity"


def words(path: Path) -> list[bytes]:
    content = path.read_bytes()
    assert len(content) == 4096
    return [content[at : at + 8] for at in range(0, 72, 8)]


def test_words_of_the_page_stand_where_the_docstring_says(tmp_path: Path) -> None:
    path = tmp_path / "page"
    page = Page(path)
    made = words(path)
    magic, opened, closed, seq = made[:4]
    assert opened == closed != seq
    assert made[4:] == [bytes(8)] * 5
    page.open()
    assert words(path)[1] != opened
    assert words(path)[2:] == made[2:]
    page.close_if_unused()
    now = words(path)
    assert now[1] == now[2]
    page.mark(IDENTITY, 7, epoch="ab" * 8, within_change=True)
    assert words(path) == [
        *[magic, *now[1:3], seq],
        *[IDENTITY, struct.pack("=q", 7), b"\xab" * 8, bytes(8), bytes(8)],
    ]
    assert (page.identity, page.epoch) == (IDENTITY, "ab" * 8)
    page.mark(IDENTITY, 7)
    assert words(path)[3] != seq
    assert words(path)[6] == bytes(8)
    question = page.ask()
    assert words(path)[7] == question == page.asked
    assert words(path)[8] == bytes(8)
    assert page.words() == b"".join(words(path)[1:4])


def test_words_of_a_slot_stand_where_the_docstring_says(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "page")
    held = [slots.take("shop", 1), slots.take("blog", 2)]
    assert [slot.number for slot in held] == [0, 1]

    def record(number: int) -> tuple[object, ...]:
        content = slots.path.read_bytes()[256 * number :]
        texts = content[48:112].rstrip(b"\0"), content[112:176].rstrip(b"\0")
        return (*struct.unpack("=IIQ8sq8sq", content[:48]), *texts)

    host = os.uname().nodename.encode()
    nothing = bytes(8)
    first = (os.getpid(), 1, 0, nothing, 0, nothing, UNKNOWN_HELD, host, b"shop")
    second = (os.getpid(), 2, 0, nothing, 0, nothing, UNKNOWN_HELD, host, b"blog")
    assert [record(0), record(1)] == [first, second]
    for failing, uses_page, flags in [
        (True, True, 1),
        (False, False, 2),
        (True, False, 3),
        (False, True, 0),
    ]:
        held[1].show(failing=failing, uses_page=uses_page, identity=IDENTITY, revision=7)
        assert record(1)[2:5] == (flags, IDENTITY, 7)
        state = slots.living()[1]
        assert (state.failing, state.uses_page) == (failing, uses_page)
    held[1].answer(b"question", NONE_HELD)
    assert record(1)[5:7] == (b"question", NONE_HELD)
    assert (slots.oldest(1), slots.oldest(0)) == (NONE_HELD, UNKNOWN_HELD)
    assert (NONE_HELD, UNKNOWN_HELD) == (2**62, -1)
    assert record(0) == first
    assert [state.number for state in slots.living()] == [0, 1]
    del held[0]
    assert slots.path.read_bytes()[:256] == bytes(256)
    assert [state.app for state in slots.living()] == ["blog"]
