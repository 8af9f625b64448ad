"""Settings declared as a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from flask import Flask

from uwsgi_waffle import ConfigurationError, InvalidValueError, Setting, WaffleConf
from uwsgi_waffle.settings.classes import declarations_of
from uwsgi_waffle.testing import waffle_override as waffle_override


class Settings(msgspec.Struct, frozen=True):
    SITENAME: Annotated[str, Setting("Name of the site", group="Look")] = "Waffle"
    MAX_FILESIZE: Annotated[int, Setting("Largest upload, in bytes", min=1)] = 1000
    TONE: Annotated[Literal["info", "warning"], Setting("Colour")] = "info"
    TAGS: Annotated[list[str], Setting("Words")] = msgspec.field(default_factory=list)
    TOKEN: Annotated[str, Setting("Key of the mail service", secret=True)] = ""


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return Flask("test", instance_path=str(tmp_path))


def test_class_declares_what_a_mapping_would(app: Flask) -> None:
    waffle = WaffleConf(app, settings=Settings)
    declared = waffle.state.declarations
    assert list(declared) == ["SITENAME", "MAX_FILESIZE", "TONE", "TAGS", "TOKEN"]
    assert declared["SITENAME"].group == "Look"
    assert declared["TOKEN"].secret
    with app.app_context(), pytest.raises(InvalidValueError, match="at least 1"):
        waffle.update({"MAX_FILESIZE": 0})


def test_conf_is_an_instance_of_the_class_at_one_revision(app: Flask) -> None:
    waffle = WaffleConf(app, settings=Settings)
    with app.app_context():
        before = waffle.conf
        assert isinstance(before, Settings)
        waffle.update({"SITENAME": "New", "TAGS": ["a"]})
        assert (waffle.conf.SITENAME, waffle.conf.TAGS) == ("New", ["a"])
        assert before.SITENAME == "Waffle"
        assert waffle.snapshot["SITENAME"] == app.config["SITENAME"] == "New"


def test_conf_is_made_once_for_each_snapshot(app: Flask) -> None:
    waffle = WaffleConf(app, settings=Settings)
    with app.test_request_context():
        assert waffle.conf is waffle.conf


def test_class_may_stand_in_the_config(app: Flask) -> None:
    app.config["WAFFLE_CONFS"] = Settings
    waffle = WaffleConf(app)
    with app.app_context():
        assert waffle.conf["MAX_FILESIZE"] == 1000


def test_settings_declared_twice_are_refused(app: Flask) -> None:
    app.config["WAFFLE_CONFS"] = {"OTHER": {"desc": "another", "default": 1}}
    with pytest.raises(ConfigurationError, match="declared twice"):
        WaffleConf(app, settings=Settings)


def test_override_shows_in_the_typed_settings(app: Flask) -> None:
    waffle = WaffleConf(app, settings=Settings)
    with app.app_context():
        with waffle.override(SITENAME="x"):
            assert waffle.conf.SITENAME == "x"
        assert waffle.conf.SITENAME == "Waffle"


def test_override_fixture_serves_other_values(app: Flask, waffle_override: object) -> None:
    assert callable(waffle_override)
    WaffleConf(app, settings=Settings)
    waffle_override(app, SITENAME="x")
    with app.app_context():
        waffle_override(MAX_FILESIZE=5)
    assert (app.config["SITENAME"], app.config["MAX_FILESIZE"]) == ("x", 5)


class Thawed(msgspec.Struct):
    A: Annotated[int, Setting("a")] = 1


class Undescribed(msgspec.Struct, frozen=True):
    A: int = 1


class Required(msgspec.Struct, frozen=True):
    A: Annotated[int, Setting("a")]


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (dict, "must be a frozen struct"),
        (Thawed, "frozen=True"),
        (Undescribed, r"Undescribed\.A needs one description"),
        (Required, r"Required\.A needs a default"),
    ],
)
def test_class_that_lacks_something_is_refused_with_its_reason(cls: type, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        declarations_of(cls)
