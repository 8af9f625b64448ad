"""No record shows the value of a secret when it is printed or logged."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from flask import Flask

from uwsgi_waffle import Setting, setting_changed
from uwsgi_waffle.config import Options
from uwsgi_waffle.masking import MASK
from uwsgi_waffle.operations import Difference, HistoryItem
from uwsgi_waffle.operations.backup import Backup, Entry
from uwsgi_waffle.operations.rollback import Plan
from uwsgi_waffle.redis_servers.urls import parse_redis_url
from uwsgi_waffle.reporting.last_known import _Kept
from uwsgi_waffle.settings.classes import declarations_of
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.signals import send_changed
from uwsgi_waffle.snapshot import Change, Delta, Row
from uwsgi_waffle.stores.base import Dump, HistoryEntry

NOW = datetime(2026, 1, 31, tzinfo=timezone.utc)
ENTRY = HistoryEntry(3, "TOKEN", '"sesame"', '"sesame2"', "ann", None, NOW)
ROW = Row("TOKEN", '"sesame"')
DECLARED = declare({"TOKEN": {"desc": "d", "default": "sesame", "choices": ["sesame"]}})["TOKEN"]


class Settings(msgspec.Struct, frozen=True):
    SITENAME: Annotated[str, Setting("Name of the site")] = "Shop"
    TOKEN: Annotated[str, Setting("Token", secret=True)] = "sesame"


class More(Settings, frozen=True):
    KEY: Annotated[str, Setting("Key", secret=True)] = "sesame"


class Written(msgspec.Struct, frozen=True):
    TOKEN: Annotated[str, Setting("Token", secret=True)] = "sesame"

    def __repr__(self) -> str:
        return "mine"


@pytest.mark.parametrize(
    "record",
    [
        ENTRY,
        HistoryItem(3, "TOKEN", '"sesame"', '"sesame2"', "ann", None, NOW),
        Difference("TOKEN", '"sesame"', '"sesame2"'),
        ROW,
        Delta(3, "epoch", (ROW,), True),
        Dump(3, "epoch", {"TOKEN": '"sesame"'}, (ENTRY,)),
        DECLARED,
        Plan({"TOKEN": '"sesame"'}, 3),
        Entry(3, "TOKEN", NOW, '"sesame"', '"sesame2"'),
        _Kept(2, "store", 3, "epoch", "mark", {"TOKEN": '"sesame"'}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_record_that_may_hold_secrets_shows_no_value(record: object) -> None:
    assert "sesame" not in repr(record)
    assert repr(record).startswith(type(record).__name__ + "(")


@pytest.mark.parametrize(
    "record",
    [
        Change("TOKEN", "sesame", "sesame2", 3, secret=True),
        DECLARED,
        parse_redis_url("redis://:sesame@localhost", key="WAFFLE_REDIS_URL"),
        Entry(3, "TOKEN", NOW, '"sesame"', '"sesame2"'),
        Backup(
            app="app", at=NOW, revision=3, secrets=True, settings={"TOKEN": "sesame"}, history=[]
        ),
        Options.from_config({"WAFFLE_REDIS_URL": "redis://:sesame@localhost"}, Path()),
        _Kept(2, "store", 3, "epoch", "mark", {"TOKEN": '"sesame"'}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_struct_shows_no_secret_to_rich_either(record: msgspec.Struct) -> None:
    assert "sesame" not in repr(list(record.__rich_repr__()))


@pytest.mark.parametrize("cls", [Settings, More])
def test_settings_class_masks_secrets_in_its_repr(cls: type) -> None:
    declarations_of(cls)
    assert "sesame" not in repr(cls())
    assert f"SITENAME='Shop', TOKEN='{MASK}'" in repr(cls())
    assert ("TOKEN", MASK) in list(cls().__rich_repr__())


def test_repr_that_the_class_has_itself_stays() -> None:
    declarations_of(Written)
    assert repr(Written()) == "mine"


@pytest.mark.parametrize("secret", [True, False])
def test_setting_changed_says_which_values_are_secret(secret: bool) -> None:
    app = Flask("test")
    heard: list[Any] = []

    def all_of_them(sender: Flask, **extra: Any) -> None:
        heard.append(extra["secret"])

    def by_name(sender: Flask, *, name: str, secret: bool, **extra: Any) -> None:
        heard.append(secret)

    def without(sender: Flask, *, name: str, old: str, new: str, revision: int) -> None:
        heard.append(name)

    with (
        setting_changed.connected_to(all_of_them, app),
        setting_changed.connected_to(by_name, app),
        setting_changed.connected_to(without, app),
    ):
        send_changed(app, [Change("TOKEN", "a", "b", 1, secret)])
    assert sorted(map(str, heard)) == sorted([str(secret), str(secret), "TOKEN"])
