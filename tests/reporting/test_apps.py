"""Two apps with one store: who is warned, and what is never removed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from flask import Flask

from uwsgi_waffle import StoreUnavailable, WaffleConf, doctor, operations
from uwsgi_waffle.app_state import WaffleState, state_of
from uwsgi_waffle.cli import group
from uwsgi_waffle.reporting.apps import LIVING_S, AppRecord, Enrolment
from uwsgi_waffle.reporting.host_defaults import MOST_HOSTS, HostDefaults, with_host
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import Clock

SHOP: dict[str, Any] = {
    "SITENAME": {"desc": "Name of the site", "default": "Shop"},
    "LIMIT": {"desc": "Upload limit", "default": 10},
}
BLOG: dict[str, Any] = {"POSTS": {"desc": "Posts on a page", "default": 5}}
#: shares a setting with the shop, as an API beside its site does
API: dict[str, Any] = {"LIMIT": SHOP["LIMIT"], "RATE": {"desc": "Calls a minute", "default": 60}}


class Site:
    """An app of some name, in a folder that others share."""

    def __init__(self, folder: Path, name: str, confs: dict[str, Any], **config: Any) -> None:
        self.app = app = Flask(name, instance_path=str(folder))
        app.config.update(WAFFLE_CONFS=confs, **config)
        self.waffle = WaffleConf(app)
        self.state: WaffleState = state_of(app)

    def flask_waffle(self, *arguments: str) -> Result:
        return self.app.test_cli_runner().invoke(group, list(arguments))


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was logged as a warning, by name of the app that shares."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and "shares this store" in record.getMessage():
                found.append(record.getMessage())

    handler = Keep()
    logging.getLogger("uwsgi_waffle").addHandler(handler)
    yield found
    logging.getLogger("uwsgi_waffle").removeHandler(handler)


def test_second_app_that_declares_none_of_the_same_is_warned_once_with_the_fix(
    folder: Path, warned: list[str]
) -> None:
    Site(folder, "shop", SHOP)
    assert warned == []
    blog = Site(folder, "blog", BLOG)
    (text,) = warned
    assert "'shop'" in text
    assert str(folder) in text
    assert "none of the settings of this app" in text
    assert "WAFFLE_STORE_PREFIX" in text
    # No request and no change says it again.
    blog.waffle.update({"POSTS": 6})
    assert blog.app.test_client().get("/").status_code == 404
    assert len(warned) == 1


def test_second_app_that_declares_another_type_is_warned(folder: Path, warned: list[str]) -> None:
    Site(folder, "shop", SHOP)
    Site(folder, "api", {"LIMIT": {"desc": "Upload limit", "default": "10"}})
    (text,) = warned
    assert "LIMIT as int, not str" in text


@pytest.mark.parametrize(
    ("name", "confs", "config"),
    [
        ("shop", BLOG, {}),
        ("api", API, {}),
        ("blog", BLOG, {"WAFFLE_STORE_PREFIX": "blog_"}),
        ("blog", BLOG, {"WAFFLE_STORE_URL": "sqlite:///waffle.db?prefix=blog_"}),
        ("blog", BLOG, {"WAFFLE_STORE_URL": "sqlite:///:memory:"}),
    ],
    ids=["new release", "shares settings", "prefix", "prefix in the URL", "own store"],
)
def test_no_warning_where_nothing_is_wrong(
    folder: Path, warned: list[str], name: str, confs: dict[str, Any], config: dict[str, Any]
) -> None:
    Site(folder, "shop", SHOP)
    other = Site(folder, name, confs, **config)
    assert warned == []
    found = {finding.id for finding in doctor.examine(other.state).findings}
    assert "D026" not in found


def test_prune_leaves_what_another_app_declares_and_says_so(folder: Path) -> None:
    shop, blog = Site(folder, "shop", SHOP), Site(folder, "blog", BLOG)
    shop.waffle.update({"LIMIT": 7})
    shop.state.commit({"GONE": "1"}, author=None, reason=None, expected_revision=None)
    blog.waffle.update({"POSTS": 6})
    result = blog.flask_waffle("prune", "--yes")
    assert result.exit_code == 0, result.output
    assert "LIMIT (shop)" in result.stderr
    assert "GONE" in result.stdout
    assert "LIMIT" not in result.stdout
    shop.waffle.refresh()
    assert shop.waffle.conf["LIMIT"] == 7
    assert operations.prune(blog.state) == []


def test_doctor_names_the_other_app_and_advises_no_prune(folder: Path) -> None:
    shop, blog = Site(folder, "shop", SHOP), Site(folder, "blog", BLOG)
    shop.waffle.update({"LIMIT": 7})
    (finding,) = doctor.examine(blog.state).findings
    assert finding.id == "D026"
    assert "'shop'" in finding.detail
    assert "WAFFLE_STORE_PREFIX" in finding.fix
    # What nobody declares is found as before.
    shop.state.commit({"GONE": "1"}, author=None, reason=None, expected_revision=None)
    found = {finding.id: finding.detail for finding in doctor.examine(blog.state).findings}
    assert found["D006"] == "GONE"


def test_reset_of_all_leaves_what_another_app_declares_too(folder: Path) -> None:
    shop, api = Site(folder, "shop", SHOP), Site(folder, "api", API)
    shop.waffle.update({"LIMIT": 7, "SITENAME": "Waffles"})
    api.waffle.update({"RATE": 5})
    result = api.flask_waffle("reset", "--all", "--yes")
    assert result.exit_code == 0, result.output
    assert "LIMIT (shop)" in result.stderr
    assert "RATE" in result.stdout
    shop.waffle.refresh()
    assert dict(shop.waffle.conf) == {"LIMIT": 7, "SITENAME": "Waffles"}
    # By its name it is reset: someone means it.
    assert api.flask_waffle("reset", "LIMIT").exit_code == 0
    shop.waffle.refresh()
    assert shop.waffle.conf["LIMIT"] == 10


def test_rollback_leaves_what_another_app_declares(folder: Path) -> None:
    shop, blog = Site(folder, "shop", SHOP), Site(folder, "blog", BLOG)
    blog.waffle.update({"POSTS": 6})
    shop.waffle.update({"LIMIT": 7})
    blog.waffle.update({"POSTS": 7})
    blog.waffle.rollback(1)
    assert blog.waffle.conf["POSTS"] == 6
    result = blog.flask_waffle("rollback", "0", "--yes")
    assert result.exit_code == 0, result.output
    assert "LIMIT (shop)" in result.stderr
    shop.waffle.refresh()
    blog.waffle.refresh()
    assert (shop.waffle.conf["LIMIT"], blog.waffle.conf["POSTS"]) == (7, 5)


def test_rollback_to_the_beginning_leaves_what_both_declare(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop, api = Site(folder, "shop", SHOP), Site(folder, "api", API)
    shop.waffle.update({"LIMIT": 7})
    api.waffle.update({"RATE": 5})
    api.waffle.rollback(0)
    assert "LIMIT (shop)" in caplog.text
    assert dict(api.waffle.conf) == {"LIMIT": 7, "RATE": 60}


def test_app_that_was_not_seen_for_a_week_is_forgotten(folder: Path) -> None:
    blog = Site(folder, "blog", BLOG)
    store = blog.state.store
    old = AppRecord("web1", "/srv/shop", 0.0, {"LIMIT": "int"})
    store.enroll("shop", msgspec.json.encode(old).decode())
    store.enroll("spoilt", "{")
    store.enroll("of another release", '{"declares": 1}')
    neighbours = blog.state.neighbours
    assert neighbours.living() == {}
    neighbours._clock = lambda: LIVING_S - 1.0
    assert neighbours.declared() == {"LIMIT": "shop"}
    neighbours._clock = lambda: LIVING_S + 1.0
    assert neighbours.declared() == {}


def test_app_says_again_now_and_then_that_it_lives(folder: Path) -> None:
    blog = Site(folder, "blog", BLOG)
    store = blog.state.store
    assert isinstance(store, SqliteStore)
    said = store.apps()["blog"]
    clock = Clock()
    task = Enrolment(blog.state.neighbours, clock=clock)
    later = msgspec.json.decode(said, type=AppRecord).at + 7 * 3600
    blog.state.neighbours._clock = lambda: later
    task.turn()
    assert store.apps()["blog"] == said
    clock.advance(7 * 3600)
    task.turn()
    assert msgspec.json.decode(store.apps()["blog"], type=AppRecord).at == later
    task.end()


def test_store_that_can_not_say_what_others_declare_has_nothing_to_prune(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, blog = Site(folder, "shop", SHOP), Site(folder, "blog", BLOG)
    shop.waffle.update({"LIMIT": 7})
    blog.waffle.refresh()

    def fail(_: object) -> dict[str, str]:
        raise StoreUnavailable("the network is down")

    monkeypatch.setattr(SqliteStore, "apps", fail)
    assert operations.undeclared(blog.state) == []
    assert blog.flask_waffle("prune", "--yes").exit_code == 1
    # Nor does the start of an app depend on it.
    Site(folder, "api", API)
    assert blog.state.neighbours.enroll() is False
    monkeypatch.undo()
    shop.waffle.refresh()
    assert shop.waffle.conf["LIMIT"] == 7


def test_app_says_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blog = Site(folder, "blog", BLOG)
    said: list[object] = []
    monkeypatch.setattr(SqliteStore, "enroll", lambda *arguments: said.append(arguments))
    Site(folder, "blog", BLOG)
    assert blog.state.neighbours.enroll() is False
    assert said == []
    Site(folder, "blog", API)
    assert len(said) == 1


def at_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    names = os.uname_result(("Linux", name, "6", "1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: names)


def test_hosts_whose_defaults_or_pins_differ_are_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{folder}/waffle.db"
    secret = {**SHOP, "TOKEN": {"desc": "Token", "default": "", "secret": True}}
    for host, config in {
        "web1": {"LIMIT": 50, "TOKEN": "sesame"},
        "web2": {"LIMIT": 50, "TOKEN": "another"},
        "web3": {"LIMIT": 60, "WAFFLE_PINNED": ["SITENAME"]},
    }.items():
        at_host(monkeypatch, host)
        place = tmp_path / host
        place.mkdir()
        site = Site(place, "shop", secret, WAFFLE_STORE_URL=url, **config)
    (found,) = [each for each in doctor.examine(site.state).findings if each.id == "D028"]
    assert "LIMIT (web1, web2: a default of its own; web3: a default of its own)" in found.detail
    assert "SITENAME (web1, web2: the declared default; web3: the declared default, pinned)" in (
        found.detail
    )
    # Of a secret no more than where it comes from.
    assert "TOKEN (web1, web2: a default of its own; web3: the declared default)" in found.detail
    assert "sesame" not in str(site.state.store.apps())


def test_hosts_with_the_same_configuration_are_healthy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{folder}/waffle.db"
    for host in ("web1", "web2"):
        at_host(monkeypatch, host)
        place = tmp_path / host
        place.mkdir()
        site = Site(place, "shop", SHOP, WAFFLE_STORE_URL=url, LIMIT=50)
    assert "D028" not in {each.id for each in doctor.examine(site.state).findings}


def test_hosts_that_are_gone_are_forgotten() -> None:
    hosts: dict[str, HostDefaults] = {}
    for number in range(200):
        hosts = with_host(hosts, f"pod-{number}", HostDefaults(float(number), {}), LIVING_S)
    assert len(hosts) == MOST_HOSTS
    assert "pod-199" in hosts
    later = HostDefaults(LIVING_S + 300, {})
    assert set(with_host(hosts, "web1", later, LIVING_S)) == {"web1"}
