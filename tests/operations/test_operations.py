"""What people do with settings: list them, tell who changed them, restore, move, tidy up."""

from __future__ import annotations

import enum
import importlib
import random
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

import msgspec
import pytest

from uwsgi_waffle import (
    ChangeRefused,
    InvalidValueError,
    RevisionConflict,
    StoreUnavailable,
    UnknownSettingError,
    operations,
)
from uwsgi_waffle.masking import MASK
from uwsgi_waffle.operations import DEFAULT, Difference, UnknownRevisionError
from uwsgi_waffle.stores import HistoryEntry

from ..support.rig import CONFS, MemoryStore, Worker

MakeWorker = Callable[..., Worker]


class Tone(enum.Enum):
    CALM = "calm"
    LOUD = "loud"


KINDS: dict[str, dict[str, Any]] = {
    "PLAIN": {"desc": "Text", "default": "x", "group": "Texts"},
    "SHORT": {"desc": "Text", "default": "x", "type": Annotated[str, msgspec.Meta(max_length=3)]},
    "TONE": {"desc": "One of two", "default": Tone.CALM},
    "SIZE": {"desc": "One of three", "default": "s", "type": Literal["s", "m", "l"]},
    "LEVEL": {"desc": "One of two", "default": 1, "choices": [1, 2], "min": 1, "max": 9},
    "TAGS": {"desc": "Some words", "default": {"a", "b"}, "type": set[str]},
    "SINCE": {"desc": "When", "default": datetime(2026, 1, 1, tzinfo=timezone.utc)},
    "BY_NUMBER": {"desc": "Words", "default": {1: "one"}, "type": dict[int, str]},
    "NICK": {"desc": "Maybe a text", "default": None, "type": str | None},
}


def infos(worker: Worker, **options: Any) -> dict[str, operations.SettingInfo]:
    return {info.name: info for info in operations.describe(worker.state, **options)}


def test_describe_tells_the_declarations_in_their_order(make_worker: MakeWorker) -> None:
    described = infos(make_worker(confs=KINDS))
    assert list(described) == list(KINDS)
    assert described["PLAIN"].desc == "Text"
    assert described["PLAIN"].group == "Texts"
    assert described["PLAIN"].choices is None
    assert [described[name].type for name in ("PLAIN", "SHORT", "TONE", "TAGS")] == [
        "str",
        "str",
        "Tone",
        "set[str]",
    ]
    assert (described["LEVEL"].min, described["LEVEL"].max) == (1, 9)
    assert described["LEVEL"].choices == (1, 2)
    assert described["SIZE"].choices == ("s", "m", "l")
    assert described["TONE"].choices == ("calm", "loud")
    assert described["TONE"].value is Tone.CALM


def test_describe_tells_where_each_value_comes_from(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": "Stored"})
    worker.state.store.write({"LIMIT": "5000"})
    worker.state.refresh()
    described = infos(worker)
    assert [info.origin for info in described.values()] == ["stored", "fault", "default"]
    assert described["SITENAME"].raw == '"Stored"'
    assert described["LIMIT"].value == described["LIMIT"].default == 10
    assert described["LIMIT"].raw == "5000"
    assert "at most 1000" in (described["LIMIT"].fault or "")
    assert described["TOKEN"].raw is None
    with worker.waffle.override(SITENAME="Mine", TOKEN="mine"):
        described = infos(worker)
        assert described["SITENAME"].value == "Mine"
        assert [info.origin for info in described.values()] == ["override", "fault", "override"]


def test_value_that_equals_its_default_may_be_stored(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 10})
    assert infos(worker)["LIMIT"].origin == "stored"


def test_secret_is_masked_unless_it_is_asked_for(make_worker: MakeWorker) -> None:
    worker = make_worker(
        confs={"TOKEN": {**CONFS["TOKEN"], "choices": ["hush", "sesame", "abracadabra"]}}
    )
    worker.waffle.update({"TOKEN": "sesame"})
    worker.waffle.update({"TOKEN": "abracadabra"})
    worker.waffle.reset(["TOKEN"])
    state = worker.state
    raws: dict[str, str | None] = {"TOKEN": '"sesame"'}
    for show in (
        operations.describe,
        operations.history,
        operations.export,
        lambda state, **o: operations.history_since(state, 0, **o),
        lambda state, **o: operations.preview(state, raws, **o),
    ):
        # Not by their repr, which never shows a value.
        masked = msgspec.json.encode(show(state)).decode()
        shown = msgspec.json.encode(show(state, show_secrets=True)).decode()
        assert MASK in masked
        for secret in ("hush", "sesame", "abracadabra"):
            assert secret not in masked
        assert "hush" in shown or "sesame" in shown
    assert [(item.old, item.new) for item in worker.waffle.history()] == [
        (MASK, DEFAULT),
        (MASK, MASK),
        (DEFAULT, MASK),
    ]
    assert worker.waffle.history(show_secrets=True)[0].old == '"abracadabra"'


def test_setting_that_is_no_longer_declared_is_masked_as_if_it_were_secret(
    make_worker: MakeWorker,
) -> None:
    make_worker().waffle.update({"TOKEN": "sesame", "LIMIT": 20})
    worker = make_worker(confs={"SITENAME": CONFS["SITENAME"]})
    assert {item.new for item in worker.waffle.history()} == {MASK}
    assert operations.preview(worker.state, {"TOKEN": None}) == [Difference("TOKEN", MASK, DEFAULT)]
    assert '"sesame"' in {item.new for item in worker.waffle.history(show_secrets=True)}


def test_history_tells_who_when_what_and_why(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20}, author="ann", reason="more room")
    worker.waffle.update({"SITENAME": "New"})
    newest, oldest = worker.waffle.history()
    assert (newest.revision, newest.name, newest.old, newest.new) == (
        2,
        "SITENAME",
        DEFAULT,
        '"New"',
    )
    assert (newest.author, newest.reason) == (None, None)
    assert (oldest.author, oldest.reason, oldest.new) == ("ann", "more room", "20")
    assert oldest.at <= newest.at <= datetime.now(timezone.utc)
    assert worker.waffle.history(name="LIMIT") == [oldest]
    assert worker.waffle.history(limit=1) == [newest]
    assert operations.history_since(worker.state, 0) == [oldest, newest]
    assert operations.history_since(worker.state, 1) == [newest]
    assert operations.history_since(worker.state, 2) == []


def test_rollback_is_a_new_change_that_restores(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"SITENAME": "One", "LIMIT": 20})
    worker.waffle.update({"SITENAME": "Two", "TOKEN": "sesame"})
    worker.waffle.reset(["LIMIT"])
    assert worker.waffle.rollback(1, author="ann") == 4
    assert dict(worker.waffle.conf) == {"SITENAME": "One", "LIMIT": 20, "TOKEN": "hush"}
    assert other.get("SITENAME") == "One"
    newest = worker.waffle.history(limit=1)[0]
    assert (newest.revision, newest.author) == (4, "ann")
    assert newest.reason == "rollback to revision 1"
    assert worker.waffle.rollback(3, reason="I was wrong") == 5
    assert dict(worker.waffle.conf) == {"SITENAME": "Two", "LIMIT": 10, "TOKEN": "sesame"}
    assert worker.waffle.history(limit=1)[0].reason == "I was wrong"
    worker.waffle.rollback(0)
    assert worker.state.snapshot.stored == {}


def test_rollback_restores_any_revision_of_a_long_history(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe_module = importlib.import_module("uwsgi_waffle.operations.describe")
    monkeypatch.setattr(describe_module, "_HISTORY_STEP", 4)
    worker = make_worker()
    chance = random.Random(7)
    stored = [worker.state.snapshot.stored]
    for number in range(30):
        names = chance.sample(list(CONFS), chance.randint(1, 3))
        values = {name: number + 1 if name == "LIMIT" else f"v{number}" for name in names}
        if chance.random() < 0.3:
            worker.waffle.reset(names)
        else:
            worker.waffle.update(values)
        stored.append(worker.state.snapshot.stored)
    for revision in [*range(30, -1, -1), 17, 3, 28]:
        worker.waffle.rollback(revision)
        assert worker.state.snapshot.stored == stored[revision], revision


def test_rollback_writes_only_what_differs(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": "One", "LIMIT": 20})
    worker.waffle.update({"LIMIT": 30})
    worker.waffle.update({"LIMIT": 20})
    assert worker.waffle.rollback(3) == 3
    assert worker.waffle.rollback(1) == 3
    plan = operations.plan_rollback(worker.state, 2)
    assert (plan.raws, plan.revision, plan.by_hand, plan.left) == (
        {"LIMIT": "30"},
        3,
        frozenset(),
        {},
    )


@pytest.mark.parametrize("revision", [-1, 2, 1000])
def test_rollback_to_a_revision_that_never_was_is_refused(
    make_worker: MakeWorker, revision: int
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    with pytest.raises(UnknownRevisionError, match="the store is at 1"):
        worker.waffle.rollback(revision)
    assert worker.waffle.revision == 1


def test_rollback_names_every_setting_that_cannot_be_restored(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"LIMIT": 900, "TOKEN": "long enough", "SITENAME": "One"})
    make_worker().waffle.update({"LIMIT": 50, "TOKEN": "short", "SITENAME": "Two"})
    confs = {
        "LIMIT": {**CONFS["LIMIT"], "max": 100},
        "SITENAME": CONFS["SITENAME"],
    }
    worker = make_worker(confs=confs)
    with pytest.raises(ChangeRefused) as caught:
        worker.waffle.rollback(1)
    assert list(caught.value.problems) == ["LIMIT", "TOKEN"]
    assert "at most 100" in caught.value.problems["LIMIT"]
    assert "not a declared setting any more" in caught.value.problems["TOKEN"]
    assert worker.waffle.revision == 2
    operations.rollback(worker.state, 1, names=["SITENAME"])
    assert worker.waffle.conf["SITENAME"] == "One"
    assert worker.waffle.conf["LIMIT"] == 50


def test_rollback_never_tells_a_secret(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"TOKEN": "long enough"})
    make_worker().waffle.update({"TOKEN": "short"})
    secret = {**CONFS["TOKEN"], "validate": lambda value: len(value) < 8}
    worker = make_worker(confs={"TOKEN": secret})
    with pytest.raises(ChangeRefused) as caught:
        worker.waffle.rollback(1)
    assert "long enough" not in str(caught.value)


def test_rollback_refuses_another_revision_than_the_expected(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    worker.waffle.update({"LIMIT": 30})
    with pytest.raises(RevisionConflict):
        worker.waffle.rollback(1, expected_revision=1)
    with pytest.raises(RevisionConflict):
        worker.waffle.rollback(2, expected_revision=1)
    assert worker.waffle.rollback(1, expected_revision=2) == 3


def test_rollback_takes_back_what_somebody_changes_meanwhile(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"LIMIT": 20})
    worker.waffle.update({"LIMIT": 30})
    original, meanwhile = worker.state.commit, iter([{"SITENAME": "Meanwhile"}])

    def commit(*args: Any, **kwargs: Any) -> int:
        for values in meanwhile:
            other.waffle.update(values)
        return original(*args, **kwargs)

    monkeypatch.setattr(worker.state, "commit", commit)
    assert worker.waffle.rollback(1) == 4
    assert dict(worker.waffle.conf) == {"SITENAME": "Shop", "LIMIT": 20, "TOKEN": "hush"}


def test_rollback_gives_up_when_there_are_always_other_changes(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"LIMIT": 20})
    original = worker.state.commit

    def commit(*args: Any, **kwargs: Any) -> int:
        other.waffle.update({"SITENAME": "Meanwhile"})
        return original(*args, **kwargs)

    monkeypatch.setattr(worker.state, "commit", commit)
    with pytest.raises(RevisionConflict):
        worker.waffle.rollback(0)
    assert worker.get("LIMIT") == 20


class ForgetfulStore(MemoryStore):
    """Keeps the newest entries of its history only, as one in memory may."""

    entries: tuple[HistoryEntry, ...] = ()

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        return list(self.entries[:limit])


def test_rollback_beyond_what_the_history_keeps_is_refused(make_worker: MakeWorker) -> None:
    store = ForgetfulStore()
    worker = make_worker(store=store)
    for limit in (20, 30, 40):
        worker.waffle.update({"LIMIT": limit})
    now = datetime.now(timezone.utc)
    entry = HistoryEntry(3, "LIMIT", "30", "40", None, None, now)
    store.entries = (entry, entry._replace(revision=2, old_raw="20", new_raw="30"))
    for revision in (0, 1):
        with pytest.raises(UnknownRevisionError, match="does not reach back"):
            worker.waffle.rollback(revision)
    store.entries = ()
    with pytest.raises(UnknownRevisionError, match="does not reach back"):
        worker.waffle.rollback(2)
    assert worker.waffle.revision == 3
    store.entries = (entry, entry._replace(revision=2, old_raw="20", new_raw="30"))
    assert worker.waffle.rollback(2) == 4
    assert worker.waffle.conf["LIMIT"] == 30


def test_rollback_to_the_start_needs_the_whole_first_change(make_worker: MakeWorker) -> None:
    store = ForgetfulStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 20, "SITENAME": "New"})
    now = datetime.now(timezone.utc)
    entry = HistoryEntry(1, "LIMIT", None, "20", None, None, now)
    store.entries = (entry,)
    with pytest.raises(UnknownRevisionError, match="does not reach back"):
        worker.waffle.rollback(0)
    store.entries = (entry, entry._replace(name="SITENAME", new_raw='"New"'))
    assert worker.waffle.rollback(0) == 2


def test_rollback_fails_with_the_store(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 20})
    store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        worker.waffle.rollback(0)
    assert worker.waffle.conf["LIMIT"] == 20


def test_preview_shows_only_what_would_change(make_worker: MakeWorker) -> None:
    worker = make_worker(confs=KINDS)
    worker.waffle.update({"PLAIN": "y", "TAGS": {"p", "q"}, "LEVEL": 1})
    assert operations.preview(
        worker.state,
        {
            "PLAIN": '"z"',
            "TAGS": '["q","p"]',
            "SHORT": None,
            "LEVEL": None,
            "SIZE": '"s"',
        },
    ) == [
        Difference("PLAIN", '"y"', '"z"'),
        Difference("LEVEL", "1", DEFAULT),
        Difference("SIZE", DEFAULT, '"s"'),
    ]
    assert worker.waffle.revision == 1


def test_export_and_import_carry_every_kind_of_value(make_worker: MakeWorker) -> None:
    values = {
        "PLAIN": "ü🧇",
        "SHORT": "abc",
        "TONE": Tone.LOUD,
        "SIZE": "l",
        "LEVEL": 2,
        "TAGS": {"p", "q"},
        "SINCE": datetime(2030, 5, 6, 7, 8, tzinfo=timezone.utc),
        "BY_NUMBER": {2: "two"},
        "NICK": "waf",
    }
    worker = make_worker(confs=KINDS)
    worker.waffle.update(values)
    exported = operations.export(worker.state)
    assert list(exported) == list(KINDS)
    assert exported["TONE"] == "loud"
    assert operations.plan_import(worker.state, exported) == {}
    assert operations.import_(worker.state, exported) == 1
    worker.waffle.reset(KINDS)
    assert operations.import_(worker.state, exported, author="ann", reason="moved") == 3
    assert dict(worker.waffle.conf) == values
    assert worker.waffle.history(limit=1)[0].reason == "moved"


def test_import_of_a_default_puts_back_to_the_default(make_worker: MakeWorker) -> None:
    worker = make_worker()
    exported = operations.export(worker.state)
    worker.waffle.update({"SITENAME": "New", "LIMIT": 20})
    assert operations.plan_import(worker.state, exported) == {"SITENAME": None, "LIMIT": None}
    assert operations.plan_import(worker.state, {"LIMIT": 20}) == {}


def test_import_leaves_a_masked_secret_as_it_is(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"TOKEN": "sesame"})
    exported = operations.export(worker.state)
    assert exported["TOKEN"] == MASK
    worker.waffle.update({"TOKEN": "other"})
    assert operations.plan_import(worker.state, exported) == {}
    assert operations.plan_import(worker.state, {"SITENAME": MASK}) == {"SITENAME": f'"{MASK}"'}
    assert operations.plan_import(worker.state, {"TOKEN": "sesame"}) == {"TOKEN": '"sesame"'}


def test_import_mends_a_fault(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.write({"LIMIT": "5000"})
    worker.state.refresh()
    assert operations.export(worker.state)["LIMIT"] == 10
    assert "LIMIT" not in operations.export(worker.state, stored_only=True)
    operations.import_(worker.state, {"LIMIT": 10})
    assert worker.waffle.status().faults == {}


def test_import_names_every_bad_key_and_writes_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker()
    with pytest.raises(InvalidValueError) as invalid:
        operations.import_(worker.state, {"LIMIT": 0, "SITENAME": 5, "TOKEN": 1234567})
    assert list(invalid.value.problems) == ["LIMIT", "SITENAME", "TOKEN"]
    assert "1234567" not in str(invalid.value)
    with pytest.raises(UnknownSettingError) as unknown:
        operations.import_(worker.state, {"LIMITS": 5, "LIMIT": 0, "SITENAME": object()})
    assert list(unknown.value.problems) == ["LIMITS", "LIMIT", "SITENAME"]
    assert "did you mean LIMIT?" in unknown.value.problems["LIMITS"]
    assert worker.waffle.revision == 0


def test_import_refuses_another_revision_than_the_expected(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    for values in ({"LIMIT": 30}, {"LIMIT": 20}):
        with pytest.raises(RevisionConflict):
            operations.import_(worker.state, values, expected_revision=0)
    assert operations.import_(worker.state, {"LIMIT": 30}, expected_revision=1) == 2


def test_export_of_stored_settings_only(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20, "TOKEN": "sesame"})
    assert operations.export(worker.state, stored_only=True) == {"LIMIT": 20, "TOKEN": MASK}
    with worker.waffle.override(LIMIT=30):
        assert operations.export(worker.state, stored_only=True)["LIMIT"] == 20


def test_json_of_a_person_is_read_strictly(make_worker: MakeWorker) -> None:
    worker = make_worker(confs=KINDS)
    assert operations.parse_json(worker.state, {"TAGS": ' ["x"] ', "NICK": "null"}) == {
        "TAGS": '["x"]',
        "NICK": "null",
    }
    with pytest.raises(InvalidValueError):
        operations.parse_json(worker.state, {"LEVEL": '"2"'})


def test_prune_removes_what_is_stored_and_not_declared(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"TOKEN": "sesame", "LIMIT": 20, "SITENAME": "New"})
    worker = make_worker(confs={"SITENAME": CONFS["SITENAME"]})
    assert operations.undeclared(worker.state) == ["LIMIT", "TOKEN"]
    with pytest.raises(RevisionConflict):
        operations.prune(worker.state, expected_revision=0)
    assert operations.prune(worker.state, author="ann") == ["LIMIT", "TOKEN"]
    assert worker.state.snapshot.stored == {"SITENAME": '"New"'}
    assert worker.waffle.history(limit=1)[0].author == "ann"
    assert operations.prune(worker.state) == []
    assert worker.waffle.revision == 2
    assert make_worker().waffle.conf["LIMIT"] == 10


def test_secret_is_in_no_log_no_error_no_status_and_no_repr(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "open-sesame"
    confs = {"TOKEN": {**CONFS["TOKEN"], "validate": lambda value: value.islower()}}
    caplog.set_level("DEBUG")
    worker = make_worker(confs=confs)
    told = []
    for value in (secret.upper(), 5, [secret]):
        with pytest.raises(InvalidValueError) as caught:
            worker.waffle.update({"TOKEN": value})
        told += [str(caught.value), repr(caught.value)]
    worker.waffle.update({"TOKEN": secret})
    worker.state.store.write({"TOKEN": f'"{secret.upper()}"'})
    worker.state.refresh()
    status = worker.waffle.status()
    assert "TOKEN" in status.faults
    told += [repr(status), repr(worker.waffle.conf), repr(worker.state.declarations["TOKEN"])]
    assert secret not in (caplog.text + "".join(told)).lower()


@pytest.mark.parametrize("way", ["history", "history_since", "rollback"])
def test_what_the_history_shows_is_served_by_every_process_of_the_host(
    way: str, make_worker: MakeWorker
) -> None:
    # A change of another host, whose notice is still under way.
    one = make_worker(confs=CONFS)
    store = one.state.store
    other = make_worker(confs=CONFS)
    one.update(LIMIT=5)
    for worker in (one, other, one, other):
        assert worker.get("LIMIT") == 5
    with one.app.test_request_context("/"):
        assert one.waffle.revision == 1
        store.write({"LIMIT": "7"})
        if way == "history":
            shown = [item.revision for item in operations.history(one.state)]
            assert shown == [2, 1]
        elif way == "history_since":
            assert [item.revision for item in operations.history_since(one.state, 1)] == [2]
        else:
            operations.plan_rollback(one.state, 0)
    assert other.get("LIMIT") == 7
