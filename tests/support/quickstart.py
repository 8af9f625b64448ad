"""What an app written for Flask-WaffleConf must do after its import was changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue

from uwsgi_waffle import InvalidValueError, UnknownSettingError, WaffleConf

CONFS = {
    "MAX_FILESIZE": {"desc": "Largest file that may be uploaded, in bytes", "default": 1000},
    "SITENAME": {"desc": "What the site is called", "default": "Waffle"},
}


def add_views(app: Flask) -> None:
    """Add the views that the ancestor's documentation shows."""

    @app.route("/")
    def index() -> str:
        state = current_app.extensions["waffleconf"]
        parsed: dict[str, str] = state.parse_conf()
        return parsed["SITENAME"]

    @app.route("/all")
    def get_all() -> ResponseReturnValue:
        state = current_app.extensions["waffleconf"]
        parsed: dict[str, object] = state.parse_conf()
        return parsed

    @app.route("/<key>")
    def get_key(key: str) -> ResponseReturnValue:
        state = current_app.extensions["waffleconf"]
        parsed: dict[str, object] = state.parse_conf([key])
        return parsed

    @app.route("/update", methods=["POST"])
    def update_vars() -> str:
        state = current_app.extensions["waffleconf"]
        state.update_db(
            {
                "SITENAME": request.form["sitename"],
                "MAX_FILESIZE": int(request.form["max_filesize"]),
            }
        )
        return "updated"


class Site(ABC):
    """One process of such an app, with a table in ``folder/app.db``.

    :ivar app: its author's own work, but for the import.
    """

    app: Flask

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def rows(self) -> dict[str, str]:
        """Return what the user's table holds, read through the user's model."""

    @abstractmethod
    def put_row(self, key: str, value: str) -> None:
        """Write a row as another program would."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def state(self) -> Any:
        return self.app.extensions["waffleconf"]

    def get(self, path: str) -> Any:
        answer = self.app.test_client().get(path)
        return answer.get_json() if answer.is_json else answer.text

    def update(self, sitename: str, max_filesize: int) -> str:
        form = {"sitename": sitename, "max_filesize": str(max_filesize)}
        return self.app.test_client().post("/update", data=form).text


class Quickstart(ABC):
    """Subclassed for each ORM; its ``site_class`` is the app."""

    site_class: type[Site]

    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[Site]:
        site = self.site_class(tmp_path)
        yield site
        site.close()

    @pytest.fixture
    def other(self, site: Site, tmp_path: Path) -> Iterator[Site]:
        other = self.site_class(tmp_path)
        yield other
        other.close()

    def test_defaults_are_served_and_a_read_writes_nothing(self, site: Site) -> None:
        assert site.get("/") == "Waffle"
        assert site.get("/all") == {"MAX_FILESIZE": 1000, "SITENAME": "Waffle"}
        assert site.get("/MAX_FILESIZE") == {"MAX_FILESIZE": 1000}
        assert site.app.config["SITENAME"] == "Waffle"
        assert site.rows() == {}

    def test_an_update_is_served_and_kept_as_json_in_the_users_table(self, site: Site) -> None:
        assert site.update("Café", 5000) == "updated"
        assert site.get("/") == "Café"
        assert site.get("/all") == {"MAX_FILESIZE": 5000, "SITENAME": "Café"}
        assert site.app.config["MAX_FILESIZE"] == 5000
        assert site.rows() == {"MAX_FILESIZE": "5000", "SITENAME": '"Café"'}
        site.update("Shop", 7)
        assert site.rows() == {"MAX_FILESIZE": "7", "SITENAME": '"Shop"'}

    def test_another_process_sees_it_at_its_next_request(self, site: Site, other: Site) -> None:
        assert other.get("/") == "Waffle"
        site.update("Shop", 5000)
        assert other.get("/") == "Shop"
        assert other.get("/all") == {"MAX_FILESIZE": 5000, "SITENAME": "Shop"}

    def test_a_new_process_starts_with_it(self, site: Site, tmp_path: Path) -> None:
        site.update("Shop", 5000)
        late = self.site_class(tmp_path)
        assert late.app.config["SITENAME"] == "Shop"
        late.close()

    def test_update_conf_reads_rows_that_others_wrote(self, site: Site) -> None:
        assert site.get("/") == "Waffle"
        site.put_row("SITENAME", '"By hand"')
        with site.app.app_context():
            site.state.update_conf()
        assert site.get("/") == "By hand"

    def test_the_state_is_where_it_was(self, site: Site) -> None:
        with site.app.app_context():
            state = current_app.extensions["waffleconf"]
            state.update_db({"SITENAME": "Shop"})
            assert state.parse_conf() == {"MAX_FILESIZE": 1000, "SITENAME": "Shop"}
            assert state.parse_conf(["SITENAME"]) == {"SITENAME": "Shop"}

    def test_what_was_skipped_silently_is_an_error_now(self, site: Site) -> None:
        with site.app.app_context():
            with pytest.raises(UnknownSettingError):
                site.state.update_db({"SITENAME": "Shop", "SITENAM": "Shop"})
            with pytest.raises(UnknownSettingError):
                site.state.parse_conf(["SITENAM"])
            with pytest.raises(InvalidValueError):
                site.state.update_db({"SITENAME": 5})
        assert site.rows() == {}


def close_store(waffle: WaffleConf) -> None:
    """Close the connections of the app's store."""
    waffle.state.store.close()
