"""What must be true of a store that another one was copied to."""

from __future__ import annotations

from uwsgi_waffle.operations import copy
from uwsgi_waffle.stores import Dump, Store
from uwsgi_waffle.stores.epochs import word_of

LONG = "x" * 70_000


def fill(store: Store) -> Dump:
    """Put into a store what is hard to carry; return what it then holds."""
    store.prepare()
    store.write({"B": "1", "A": '"ü 🧇 \\u0000"'}, author="ann", reason="first, of two")
    store.write({"B": None, "C": '{"x":[1,null]}'}, author="bob")
    store.write({"LONG": f'"{LONG}"'}, reason="")
    store.write({"B": "2", "Ä name %s ?": '"=x"'}, author="", reason="a 'quote' and = sign")
    store.write({"C": None})
    dump = store.dump()
    assert (dump.revision, len(dump.history)) == (5, 8)
    assert dump.raws.keys() == {"A", "B", "LONG", "Ä name %s ?"}
    return dump


def check_copy(source: Store, target: Store) -> None:
    """Copy, and check that readers and writers of the target go on with what was copied."""
    filled = fill(source)
    target.prepare()
    for number in range(7):
        target.write({"A": str(number), "GONE": "1"}, author="of the target")
    known = target.read_since(0, "")
    assert copy(source, target, overwrite=True)[2:] == filled[2:]
    copied = target.dump()
    assert copied[0] == filled[0]
    assert copied[2:] == filled[2:]
    # The target stands in for the source, and stays what it was for who knows it.
    assert copied.epoch == known.epoch != filled.epoch
    if target.keeps_replaced:
        assert word_of(filled.epoch) in target.replaced()
    # One who served what was there before reads everything, though the revision is a lower one.
    delta = target.read_since(known.revision, known.epoch, known.mark)
    assert (delta.complete, delta.revision) == (True, 5)
    assert {name: raw for name, raw in delta.rows if raw is not None} == filled.raws
    # Life goes on where it was.
    assert target.write({"D": "4", "A": None}, expected_revision=5) == 6
    later = target.read_since(5, delta.epoch, delta.mark)
    assert (later.complete, later.revision, set(later.rows)) == (
        False,
        6,
        {("D", "4"), ("A", None)},
    )
    newest, second, *rest = target.history()
    assert (newest.name, newest.old_raw, newest.new_raw) == ("A", filled.raws["A"], None)
    assert (second.name, second.revision) == ("D", 6)
    assert tuple(rest) == filled.history
    # And back again.
    assert copy(target, source, overwrite=True).revision == 6
    assert source.dump()[2:] == target.dump()[2:]
