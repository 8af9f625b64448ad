"""Read your writes: what was seen on one host is the least that another serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import session

from uwsgi_waffle import InvalidValueError, SqliteStore, StoreUnavailable
from uwsgi_waffle.process.token import Reached, Token
from uwsgi_waffle.stores import Delta

from ..support.rig import Worker

MakeWorker = Callable[..., Worker]


class CountingStore(SqliteStore):
    """Counts how often it is read, and can be out of reach."""

    reads = 0
    failing = False

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        self.reads += 1
        if self.failing:
            raise StoreUnavailable("out of reach")
        return super().read_since(revision, epoch, mark)


class Hosts:
    """Two hosts on one database; the second hears nothing of what the first does."""

    def __init__(self, make_worker: MakeWorker, folder: Path) -> None:
        database = folder / "shared.db"
        self.stores = [CountingStore(database) for _ in range(2)]
        quiet = {"WAFFLE_RESYNC_INTERVAL": 3600.0}
        self.first, self.second = (
            make_worker(where=_made(folder / name), store=store, **quiet)
            for name, store in zip(("first", "second"), self.stores, strict=True)
        )

        @self.second.app.get("/required/<token>")
        def required(token: str) -> Any:
            before = self.second.waffle.conf["LIMIT"]
            sure = self.second.waffle.require(token)
            return {
                "before": before,
                "conf": self.second.waffle.conf["LIMIT"],
                "config": self.second.app.config["LIMIT"],
                "sure": sure,
            }

    def settle(self) -> None:
        """Let the second host read what it itself has marked since."""
        self.second.get("LIMIT")

    def token(self) -> str:
        """Return the token of the first host."""
        with self.first.app.app_context():
            return self.first.waffle.token

    def require(self, token: str) -> Any:
        """Return what a request to the second host has before and after it requires a token."""
        return self.second.app.test_client().get(f"/required/{token}").get_json()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def hosts(make_worker: MakeWorker, folder: Path) -> Hosts:
    return Hosts(make_worker, folder)


def test_who_saved_on_one_host_sees_it_on_the_other(hosts: Hosts) -> None:
    hosts.settle()
    hosts.first.update(LIMIT=7)
    assert hosts.second.get("LIMIT") != 7
    seen = hosts.require(hosts.token())
    assert seen == {"before": seen["before"], "conf": 7, "config": 7, "sure": True}
    assert seen["before"] != 7


def test_token_that_was_reached_costs_no_read(hosts: Hosts) -> None:
    hosts.first.update(LIMIT=7)
    token = hosts.token()
    hosts.require(token)
    hosts.settle()
    reads = hosts.stores[1].reads
    hosts.require(token)
    assert hosts.stores[1].reads == reads


def test_token_of_what_a_process_has_costs_no_read(hosts: Hosts) -> None:
    hosts.first.update(LIMIT=7)
    hosts.second.manager.refresh()
    hosts.settle()
    reads = hosts.stores[1].reads
    assert hosts.require(hosts.token())["conf"] == 7
    assert hosts.stores[1].reads == reads


def test_token_that_was_not_reached_costs_one_read(hosts: Hosts) -> None:
    hosts.settle()
    hosts.first.update(LIMIT=7)
    reads = hosts.stores[1].reads
    hosts.require(hosts.token())
    assert hosts.stores[1].reads == reads + 1


def test_token_of_a_future_that_was_lost_is_dropped(hosts: Hosts) -> None:
    hosts.first.update(LIMIT=7)
    kept = hosts.first.state.store.dump()
    hosts.first.update(LIMIT=8)
    lost = hosts.token()
    hosts.first.state.replace(kept, expected_revision=None)
    assert hosts.require(lost) == {**hosts.require(lost), "conf": 7, "config": 7, "sure": True}
    hosts.settle()
    reads = hosts.stores[1].reads
    assert hosts.require(lost)["conf"] == 7
    assert hosts.stores[1].reads == reads


def test_lower_revision_after_a_restore_is_no_token_of_the_past(hosts: Hosts) -> None:
    hosts.first.update(LIMIT=7)
    kept = hosts.first.state.store.dump()
    for limit in (8, 9, 10):
        hosts.first.update(LIMIT=limit)
    assert hosts.require(hosts.token())["conf"] == 10
    hosts.first.state.replace(kept, expected_revision=None)
    hosts.first.update(LIMIT=6)
    seen = hosts.require(hosts.token())
    assert (seen["conf"], seen["config"]) == (6, 6)


def test_tokens_beyond_a_thousand_cost_a_read_again() -> None:
    reached = Reached()
    tokens = [Token(number, "0" * 16, "0" * 16) for number in range(1001)]
    for token in tokens:
        reached.add(token)
    assert [token in reached for token in (tokens[0], tokens[-1])] == [False, True]


@pytest.mark.parametrize(
    "text",
    ["", "x", "7", "-1-0-0", "9" * 40, "1-" + "g" * 16 + "-" + "0" * 16, "1-٣-٣", "\ud800"],
)
def test_text_that_is_no_token_costs_nothing(hosts: Hosts, text: str) -> None:
    hosts.settle()
    reads = hosts.stores[1].reads
    with hosts.second.app.app_context():
        assert hosts.second.waffle.require(text)
        assert hosts.second.waffle.require(None)
    assert hosts.stores[1].reads == reads


@pytest.mark.parametrize("token", [b"1-0-0", 5, ["1-0-0"], True])
def test_token_that_is_no_string_is_refused(hosts: Hosts, token: Any) -> None:
    with hosts.second.app.app_context(), pytest.raises(InvalidValueError, match="be a string, got"):
        hosts.second.waffle.require(token)


def test_nothing_is_sure_while_the_store_fails(hosts: Hosts) -> None:
    hosts.first.update(LIMIT=7)
    token = hosts.token()
    hosts.stores[1].failing = True
    seen = hosts.require(token)
    assert (seen["sure"], seen["conf"]) == (False, seen["before"])
    hosts.stores[1].failing = False
    hosts.second.manager.refresh()
    assert hosts.require(token)["conf"] == 7


def test_token_is_of_the_change_that_the_request_made(hosts: Hosts) -> None:
    @hosts.first.app.get("/change")
    def change() -> str:
        before = hosts.first.waffle.token
        hosts.first.waffle.update({"LIMIT": 9})
        assert hosts.first.waffle.token != before
        return hosts.first.waffle.token

    token = hosts.first.app.test_client().get("/change").get_data(as_text=True)
    assert hosts.require(token)["conf"] == 9


def test_token_shows_no_value_and_reads_back(hosts: Hosts) -> None:
    hosts.first.update(SITENAME="of no use to others")
    text = hosts.token()
    token = Token.parse(text)
    assert token is not None
    assert str(token) == text
    assert token.revision == hosts.first.manager.snapshot.revision
    assert "others" not in text


def test_page_after_saving_shows_the_change_on_any_host(hosts: Hosts) -> None:
    for host in (hosts.first, hosts.second):
        host.app.config["SECRET_KEY"] = "the same on both"
        host.app.register_blueprint(
            host.waffle.admin_blueprint(authorize=lambda: True), url_prefix="/settings"
        )

    @hosts.first.app.get("/cookie")
    def cookie() -> str:
        from uwsgi_waffle.admin.frame import Frame

        hosts.first.waffle.update({"SITENAME": "Newly named"})
        Frame.remember(hosts.first.state)
        return str(dict(session))

    first, second = hosts.first.app.test_client(), hosts.second.app.test_client()
    assert "Newly named" not in second.get("/settings/").get_data(as_text=True)
    first.get("/cookie")
    kept = first.get_cookie("session")
    assert kept is not None
    second.set_cookie("session", kept.value)
    assert "Newly named" in second.get("/settings/").get_data(as_text=True)

    hosts.stores[1].failing = True
    first.get("/cookie")
    kept = first.get_cookie("session")
    assert kept is not None
    second.set_cookie("session", kept.value)
    saved = hosts.first.waffle.revision
    said = "Your change is saved. This worker can't read the store, and still shows revision 1."
    assert said in second.get(f"/settings/?saved={saved}").get_data(as_text=True)
    # It is said to who has saved, and only then.
    assert said not in second.get("/settings/").get_data(as_text=True)
    stranger = hosts.second.app.test_client()
    assert said not in stranger.get(f"/settings/?saved={saved}").get_data(as_text=True)
    hosts.stores[1].failing = False
    hosts.second.manager.refresh()
    page = second.get(f"/settings/?saved={saved}").get_data(as_text=True)
    assert f"Saved as revision {saved}." in page
