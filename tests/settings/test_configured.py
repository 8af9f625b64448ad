"""Defaults and pins of one host: what ``app.config`` has before the extension."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from uwsgi_waffle import (
    ChangeRefused,
    ConfigurationError,
    PinnedSettingError,
    WaffleConf,
    operations,
)
from uwsgi_waffle.settings.configured import configure
from uwsgi_waffle.settings.declare import declare

from ..support.rig import CONFS, Worker

MakeWorker = Callable[..., Worker]


def default(type_: Any, declared: object, value: object) -> Any:
    """Return the default that a value in ``app.config`` makes."""
    declarations = declare({"X": {"desc": "d", "type": type_, "default": declared}})
    made = configure(declarations, {"X": value}, plain={}, pinned=())["X"]
    assert made.default_from == "config"
    return made.default


@pytest.mark.parametrize(
    ("type_", "declared", "variable", "value"),
    [
        (int, 1, "5", 5),
        (int, 1, '"5"', 5),
        (str, "", "5", "5"),
        (str, "", "007", "007"),
        (str, "", "true", "true"),
        (str, "", '"1.10"', "1.10"),
        (str, "", "Grüße", "Grüße"),
        (bool, False, "true", True),
        (bool, False, "yes", True),
        (bool, True, "0", False),
        (timedelta, timedelta(), "30m", timedelta(minutes=30)),
        (timedelta, timedelta(), "90", timedelta(seconds=90)),
        (Decimal, Decimal(), "9.5", Decimal("9.5")),
        (float, 0.0, "3", 3.0),
        (list[str], [], '["a", "b"]', ["a", "b"]),
        (int | None, 3, "null", None),
        (str | None, "", "null", None),
    ],
)
def test_variable_of_the_environment_is_read_by_the_type(
    monkeypatch: pytest.MonkeyPatch, type_: Any, declared: object, variable: str, value: object
) -> None:
    monkeypatch.setenv("FLASK_X", variable)
    app = Flask("app")
    app.config.from_prefixed_env()
    read = default(type_, declared, app.config["X"])
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("type_", "declared", "value", "message"),
    [
        (int, 1, "many", "it must be a whole number"),
        (int, 1, True, "it must be a whole number"),
        (str, "", 1.1, "must be quoted"),
        (str, "", None, "it must be a string"),
        (str, "", ["a"], "it must be a string"),
        (list[int], [], "a, b", "write a list as JSON"),
    ],
)
def test_value_that_does_not_fit_is_refused(
    type_: Any, declared: object, value: object, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"app\.config\['X'\]: .*{message}.*; correct it"):
        default(type_, declared, value)


def test_every_faulty_value_and_pin_is_named_at_the_start_and_no_secret_is_shown(
    make_worker: MakeWorker,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_worker(
            confs={**CONFS, "KEY": {"desc": "d", "default": 1, "secret": True}},
            LIMIT=5000,
            KEY="open-sesame",
            WAFFLE_PINNED=["SITENAM"],
        )
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "WAFFLE_PINNED",
        "app.config['LIMIT']",
        "app.config['KEY']",
    ]
    assert "did you mean SITENAME?" in lines[0]
    assert "at most 1000, got 5000" in lines[1]
    assert "sesame" not in str(refused.value)


def test_what_flask_puts_into_config_is_no_default(folder: Path) -> None:
    app = Flask("app", instance_path=str(folder))
    app.config["WAFFLE_CONFS"] = {
        "MAX_CONTENT_LENGTH": {"desc": "d", "default": 1000},
        "PERMANENT_SESSION_LIFETIME": {"desc": "d", "default": timedelta(1)},
        "DEBUG": {"desc": "d", "default": True},
    }
    waffle = WaffleConf(app)
    assert dict(waffle.conf) == {
        "MAX_CONTENT_LENGTH": 1000,
        "PERMANENT_SESSION_LIFETIME": timedelta(1),
        "DEBUG": True,
    }


def test_value_of_config_is_the_default_of_its_setting(make_worker: MakeWorker) -> None:
    worker = make_worker(LIMIT="20")
    assert worker.get("LIMIT") == 20
    worker.update(LIMIT=30)
    assert worker.get("LIMIT") == 30
    worker.waffle.reset("LIMIT")
    assert worker.get("LIMIT") == 20
    infos = {info.name: info for info in operations.describe(worker.state)}
    assert (infos["LIMIT"].origin, infos["LIMIT"].default) == ("config", 20)
    assert (infos["SITENAME"].origin, infos["SITENAME"].default_from) == ("default", "declaration")


def test_declaration_may_pin(make_worker: MakeWorker) -> None:
    worker = make_worker(confs={**CONFS, "MODE": {"desc": "d", "default": "a", "pinned": True}})
    with pytest.raises(PinnedSettingError, match="MODE: it is pinned"):
        worker.waffle.update({"MODE": "b"})


@pytest.fixture
def pinned(make_worker: MakeWorker) -> Worker:
    """A worker that pins what another host has changed."""
    other = make_worker()
    other.update(LIMIT=30)
    other.update(LIMIT=40, SITENAME="Other")
    return make_worker(LIMIT=20, WAFFLE_PINNED="LIMIT, TOKEN")


def test_pinned_setting_keeps_its_value_whatever_is_stored(
    pinned: Worker, make_worker: MakeWorker
) -> None:
    assert pinned.get("LIMIT") == 20
    other = make_worker()
    other.update(LIMIT=50)
    other.state.store.write({"LIMIT": '"no number"'})
    assert pinned.get("LIMIT") == 20
    assert pinned.get("SITENAME") == "Other"
    assert pinned.waffle.status().faults == {}
    with pinned.waffle.override(LIMIT=3):
        assert pinned.get("LIMIT") == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda waffle: waffle.update({"LIMIT": 5, "SITENAME": "x"}),
        lambda waffle: waffle.reset(["LIMIT"]),
        lambda waffle: waffle.rollback(1),
        lambda waffle: operations.import_(waffle.state, {"LIMIT": 5}),
        lambda waffle: waffle.state.update_db({"LIMIT": 5}),
    ],
    ids=["update", "reset", "rollback", "import", "update_db"],
)
def test_change_of_a_pinned_setting_is_refused_and_the_fix_is_named(
    pinned: Worker, change: Callable[[WaffleConf[Any]], object]
) -> None:
    with pytest.raises(ChangeRefused, match=r"LIMIT: it is pinned.*and reload, or unpin it"):
        change(pinned.waffle)
    assert pinned.waffle.refresh() == 2


def test_rollback_leaves_out_what_is_pinned_where_it_is_not_named(pinned: Worker) -> None:
    plan = operations.plan_rollback(pinned.state, 0, names=["SITENAME"])
    assert plan.raws == {"SITENAME": None}


def test_export_has_the_value_that_is_served_and_may_be_imported_again(pinned: Worker) -> None:
    values = operations.export(pinned.state)
    assert values["LIMIT"] == 20
    assert operations.plan_import(pinned.state, values) == {}


@pytest.mark.parametrize("names", [3, [3], {"A": 1}.items()])
def test_pins_that_are_no_names_are_refused(make_worker: MakeWorker, names: object) -> None:
    with pytest.raises(ConfigurationError, match="WAFFLE_PINNED must be a list"):
        make_worker(WAFFLE_PINNED=names)


def test_repr_of_declarations_shows_no_default_of_config(make_worker: MakeWorker) -> None:
    worker = make_worker(TOKEN="open-sesame")
    assert "sesame" not in repr(worker.state.declarations["TOKEN"])
    assert "sesame" not in json.dumps(str(operations.describe(worker.state)))
