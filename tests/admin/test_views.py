"""The admin page, as a visitor without JavaScript uses it."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask
from flask_wtf import CSRFProtect

from uwsgi_waffle import (
    ConfigurationError,
    OutcomeUnknown,
    StoreUnavailable,
    WaffleConf,
    __version__,
)
from uwsgi_waffle.admin import Access
from uwsgi_waffle.admin.tokens import sign
from uwsgi_waffle.testing.report_contract import a_report

from ..support.forms import Page, browse
from ..support.host_rows import a_host
from ..support.rig import MemoryStore, Worker, raising

MakeWorker = Callable[..., Worker]

CONFS: dict[str, dict[str, Any]] = {
    "SITENAME": {"desc": "Name of the site", "default": "Shop", "group": "Site"},
    "OPEN": {"desc": "Whether it is open", "default": False, "group": "Site"},
    "LIMIT": {"desc": "Upload limit", "default": 10, "min": 1, "max": 1000},
    "TOKEN": {"desc": "API token", "default": "hush-1", "secret": True},
    "MAP": {"desc": "Some numbers", "default": {"a": 1}, "type": dict[str, int]},
    "ANY": {"desc": "Whatever", "default": {"a": 1}, "type": dict[str, Any]},
}


class Admin:
    """A visitor of the pages of one worker."""

    def __init__(self, worker: Worker, prefix: str = "/settings") -> None:
        self.worker = worker
        self.client = worker.app.test_client()
        self.prefix = prefix

    def open(self, path: str = "/") -> Page:
        return browse(self.client, self.prefix + path)

    def save(self, **typed: Any) -> Page:
        """Type, look over, save."""
        return self.open().submit("/preview", **typed).submit("/save")

    @property
    def conf(self) -> dict[str, Any]:
        return dict(self.worker.waffle.conf)


@pytest.fixture
def make_admin(make_worker: MakeWorker) -> Callable[..., Admin]:
    def make(
        authorize: Callable[[], object] | None = lambda: "ann",
        *,
        author: Callable[[], str | None] | None = None,
        confs: Any = CONFS,
        pages: dict[str, Any] | None = None,
        **options: Any,
    ) -> Admin:
        worker = make_worker(confs=confs, SECRET_KEY="k", **options)
        blueprint = worker.waffle.admin_blueprint(authorize, author=author, **pages or {})
        worker.app.register_blueprint(blueprint, url_prefix="/settings")
        return Admin(worker)

    return make


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    return make_admin()


MakeAdmin = Callable[..., Admin]

ROUTES = [
    ("get", "/"),
    ("post", "/edit"),
    ("post", "/preview"),
    ("post", "/save"),
    ("get", "/history"),
    ("get", "/rollback"),
    ("post", "/rollback"),
    ("get", "/workers"),
    ("get", "/reach"),
    ("get", "/news"),
    ("post", "/switch"),
    ("get", "/assets/waffle_admin.css"),
]


class TestAccess:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    @pytest.mark.parametrize("authorize", [None, lambda: False, lambda: None, lambda: ""])
    def test_everybody_is_refused_until_authorize_says_yes(
        self, make_admin: MakeAdmin, authorize: Any, method: str, path: str
    ) -> None:
        client = make_admin(authorize).client
        assert getattr(client, method)(f"/settings{path}").status_code == 403

    def test_every_route_is_tried_above(self, admin: Admin) -> None:
        rules = admin.worker.app.url_map.iter_rules()
        found = {
            (method.lower(), rule.rule.removeprefix("/settings").replace("<path:filename>", ""))
            for rule in rules
            if rule.endpoint.startswith("waffle_admin.")
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        assert found == {(method, path.replace("waffle_admin.css", "")) for method, path in ROUTES}

    def test_response_of_authorize_is_sent(self, make_admin: MakeAdmin) -> None:
        answer = make_admin(lambda: flask.redirect("/login")).client.get("/settings/")
        assert (answer.status_code, answer.location) == (302, "/login")

    def test_authorize_may_abort(self, make_admin: MakeAdmin) -> None:
        assert make_admin(lambda: flask.abort(401)).client.get("/settings/").status_code == 401

    def test_authorize_may_fail(self, make_admin: MakeAdmin) -> None:
        admin = make_admin(lambda: 1 / 0)
        assert admin.client.get("/settings/").status_code == 500

    @pytest.mark.parametrize(
        "verdict",
        [
            ("no", 403),
            object(),
            ["admin"],
            403,
            1,
            -1,
            0,
            "<p>Log in</p>",
            "two\nlines",
            "x" * 256,
            Access("<b>", edit=True),
        ],
    )
    def test_what_is_neither_yes_nor_no_lets_nobody_in(
        self, make_admin: MakeAdmin, verdict: object
    ) -> None:
        admin = make_admin(lambda: verdict)
        admin.worker.app.testing = True
        with pytest.raises(ConfigurationError, match="authorize must return"):
            admin.client.get("/settings/")

    def test_something_that_is_no_function_is_refused_at_once(self, admin: Admin) -> None:
        with pytest.raises(ConfigurationError, match="authorize must be a function"):
            admin.worker.waffle.admin_blueprint(authorize=True)  # type: ignore[arg-type]

    def test_name_of_authorize_is_in_the_history(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        assert admin.worker.waffle.history()[0].author == "ann"

    def test_name_of_author_is_in_the_history(self, make_admin: MakeAdmin) -> None:
        admin = make_admin(lambda: True, author=lambda: "bob")
        admin.save(v_LIMIT="20")
        assert admin.worker.waffle.history()[0].author == "bob"

    def test_missing_secret_key_is_named(self, make_admin: MakeAdmin) -> None:
        admin = make_admin()
        admin.worker.app.config["SECRET_KEY"] = None
        admin.worker.app.testing = True
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            admin.client.get("/settings/")

    def test_missing_secret_key_stops_the_start(self, make_worker: MakeWorker) -> None:
        worker = make_worker(confs=CONFS)
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            worker.app.register_blueprint(worker.waffle.admin_blueprint(lambda: True))

    def test_app_without_waffle_is_told(self, admin: Admin) -> None:
        other = Flask("other")
        other.config.update(SECRET_KEY="k", TESTING=True)
        other.register_blueprint(admin.worker.waffle.admin_blueprint(lambda: True))
        with pytest.raises(ConfigurationError, match="init_app"):
            other.test_client().get("/")

    def test_missing_extra_is_named(self, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "flask_wtf", None)
        with pytest.raises(ConfigurationError, match=r"uwsgi-waffle\[admin\]"):
            admin.worker.waffle.admin_blueprint()

    def test_workers_without_the_page_import_none_of_it(self) -> None:
        code = (
            "import sys, uwsgi_waffle; "
            "found = [m for m in sys.modules if 'wtf' in m or m.startswith('uwsgi_waffle.admin')]; "
            "sys.exit(str(found) if found else 0)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


class TestForgery:
    @pytest.mark.parametrize("path", ["/preview", "/save", "/edit"])
    @pytest.mark.parametrize("token", ["none", "of another session", "forged"])
    def test_form_of_another_site_changes_nothing_and_fills_in_nothing(
        self, admin: Admin, path: str, token: str
    ) -> None:
        fields = admin.open().form("/preview")
        if token == "none":
            del fields["csrf_token"]
        elif token == "forged":
            fields["csrf_token"] = ["x"]
        client = admin.worker.app.test_client() if token == "of another session" else admin.client
        fields["v-SITENAME"] = ["evil"]
        page = browse(client, f"/settings{path}", fields, method="post")
        assert page.code == 400
        assert "Nothing was saved" in page.text
        assert "evil" not in page.text
        page.submit("/preview", v_LIMIT="20").submit("/save")
        assert admin.conf["SITENAME"] == "Shop"

    @pytest.mark.parametrize("path", ["/preview", "/save", "/edit"])
    def test_form_that_is_too_old_keeps_what_was_typed(
        self, admin: Admin, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = admin.open().form("/preview")
        admin.worker.app.config["WTF_CSRF_TIME_LIMIT"] = -1
        fields["v-SITENAME"] = ["typed"]
        page = browse(admin.client, f"/settings{path}", fields, method="post")
        assert page.code == 400
        assert "what you typed is still here" in page.text
        assert page.control("SITENAME")["value"] == "typed"
        assert admin.worker.waffle.revision == 0
        admin.worker.app.config["WTF_CSRF_TIME_LIMIT"] = 3600
        page.submit("/preview").submit("/save")
        assert admin.conf["SITENAME"] == "typed"

    @pytest.mark.parametrize(
        ("comes_from", "made_for", "is_kept"),
        [
            ("same-origin", "ann", True),
            # A form that was put into another page of this origin has no signature of ours.
            ("same-origin", "", False),
            ("same-origin", "forged", False),
            ("same-origin", "bob", False),
            ("same-site", "ann", False),
            ("cross-site", "ann", False),
            (None, "ann", False),
        ],
    )
    def test_own_form_of_the_same_person_is_kept_when_the_session_is_gone(
        self, admin: Admin, comes_from: str | None, made_for: str, is_kept: bool
    ) -> None:
        fields = admin.open().form("/preview")
        fields["v-SITENAME"] = ["typed"]
        if made_for in ("", "forged"):
            fields["made_for"] = [made_for]
        elif made_for == "bob":
            with admin.worker.app.app_context():
                fields["made_for"] = [sign("made for", "bob")]
        client = admin.worker.app.test_client()
        headers = {"Sec-Fetch-Site": comes_from} if comes_from else {}
        answer = client.post("/settings/preview", data=fields, headers=headers)
        assert answer.status_code == 400
        assert ('value="typed"' in answer.text) is is_kept
        assert admin.worker.waffle.revision == 0

    def test_rollback_needs_a_token(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        answer = admin.client.post("/settings/rollback", data={"to": "0", "revision": "1"})
        assert answer.status_code == 400
        assert admin.conf["LIMIT"] == 20

    def test_token_of_another_session_is_refused(self, admin: Admin) -> None:
        fields = admin.open().form("/preview")
        stranger = admin.worker.app.test_client()
        assert browse(stranger, "/settings/preview", fields, method="post").code == 400

    def test_works_beside_an_app_wide_protection(self, admin: Admin) -> None:
        CSRFProtect(admin.worker.app)
        assert "Saved as revision 1" in admin.save(v_LIMIT="20").text
        assert admin.client.post("/settings/save").status_code == 400

    def test_get_changes_nothing(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        assert admin.open("/rollback?to=0").code == 200
        assert admin.conf["LIMIT"] == 20


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/history", "/workers", "/rollback?to=0"])
    def test_pages_are_kept_out_of_caches_and_frames(self, admin: Admin, path: str) -> None:
        headers = admin.open(path).response.headers
        # The form is kept for the back button, by this browser alone.
        kept = "private, no-cache" if path == "/" else "no-store"
        assert headers["Cache-Control"] == kept
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]

    def test_pages_need_nothing_inline(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        pages = [admin.open(path) for path in ("/", "/history", "/workers", "/rollback?to=0")]
        pages.append(admin.open().submit("/preview", v_LIMIT="0"))
        pages.append(admin.open().submit("/preview", v_LIMIT="5"))
        for page in pages:
            assert "unsafe" not in page.response.headers["Content-Security-Policy"]
            for tag, attributes in page.tags:
                assert tag != "style"
                assert tag != "script" or attributes["src"].startswith("/settings/assets/")
                assert not [name for name in attributes if name == "style" or name[:2] == "on"]

    def test_policy_of_the_app_wins(self, admin: Admin) -> None:
        @admin.worker.app.after_request
        def strict(response: flask.Response) -> flask.Response:
            response.headers["Content-Security-Policy"] = "default-src 'self'"
            return response

        policies = admin.open().response.headers.getlist("Content-Security-Policy")
        assert policies == ["default-src 'self'"]

    @pytest.mark.parametrize("name", ["waffle_admin.css", "waffle_admin.js"])
    def test_assets_are_served_and_name_no_other_host(self, admin: Admin, name: str) -> None:
        with admin.client.get(f"/settings/assets/{name}") as answer:
            assert answer.status_code == 200
            assert "://" not in answer.get_data(as_text=True)

    def test_assets_outside_of_the_folder_are_not(self, admin: Admin) -> None:
        assert admin.client.get("/settings/assets/../pages.py").status_code == 404


class TestForm:
    def test_settings_stand_under_their_groups(self, admin: Admin) -> None:
        text = admin.open().text
        places = [
            text.index(part) for part in (">General<", 'id="f-LIMIT', ">Site<", 'id="f-SITENAME')
        ]
        legends = [text.index(f"<h2>{title}</h2>") for title in ("General", "Site")]
        assert legends == sorted(legends)
        assert places[1] < places[3]

    def test_every_control_has_a_label_and_a_description(self, admin: Admin) -> None:
        page = admin.open()
        labelled = {attributes.get("for") for tag, attributes in page.tags if tag == "label"}
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for name in CONFS:
            assert f"f-{name}" in labelled or page.control(name)["tag"] == "fieldset"
            for described in page.control(name)["aria-describedby"].split():
                assert described in ids

    def test_changed_settings_are_told_apart_in_words(self, admin: Admin) -> None:
        assert ">changed<" not in admin.open().text
        admin.save(v_LIMIT="20")
        page = admin.open()
        assert page.text.count(">changed<") == 1
        assert "r-LIMIT" in page.text
        assert "r-SITENAME" not in page.text

    def test_search_hides_what_does_not_match(self, admin: Admin) -> None:
        def shown(query: str) -> set[str]:
            page = admin.open(f"/?q={query}")
            return {
                attributes["data-setting"].split()[0].upper()
                for _, attributes in page.tags
                if "data-setting" in attributes and "hidden" not in attributes
            }

        assert shown("upload") == {"LIMIT"}
        assert shown("SITE name") == {"SITENAME"}
        assert shown("hush") == set()
        assert "1 of 6 settings" in admin.open("/?q=upload").text
        assert shown("") == set(CONFS)

    def test_search_keeps_hidden_settings_in_the_form(self, admin: Admin) -> None:
        page = admin.open("/?q=upload").submit("/preview", v_LIMIT="20").submit("/save")
        assert "Saved as revision 1" in page.text
        assert admin.conf == {**dict(admin.conf), "SITENAME": "Shop", "LIMIT": 20}

    def test_no_settings_at_all(self, make_admin: MakeAdmin) -> None:
        assert "declares no settings" in make_admin(confs={}).open().text

    def test_value_that_no_longer_fits_is_told(self, admin: Admin) -> None:
        admin.worker.state.store.write({"LIMIT": '"many"'})
        admin.worker.waffle.refresh()
        page = admin.open()
        assert "What is stored is not valid" in page.text
        page.submit("/preview", r_LIMIT="1").submit("/save")
        assert "What is stored is not valid" not in admin.open().text

    def test_stored_but_undeclared_names_are_told(self, admin: Admin) -> None:
        admin.worker.state.store.write({"GONE": "1"})
        admin.worker.waffle.refresh()
        assert "no longer declared: GONE" in admin.open().text

    def test_failing_store_is_told_and_the_last_good_settings_are_shown(
        self, make_admin: MakeAdmin
    ) -> None:
        store = MemoryStore()
        admin = make_admin(store=store)
        store.error = StoreUnavailable("no luck")
        with pytest.raises(StoreUnavailable):
            admin.worker.waffle.refresh()
        page = admin.open()
        assert page.code == 200
        assert "Requests get the settings of revision 0, as last read from the store" in page.text


class TestSaving:
    def test_preview_shows_old_and_new_and_changes_nothing(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20", v_OPEN=["false", "true"])
        assert page.code == 200
        assert page.text.count('role="rowheader"') == 2
        for shown in ("10", "20", "Off", "On"):
            assert f'<span class="wa-value">{shown}</span>' in page.text
        assert admin.worker.waffle.revision == 0

    def test_save_makes_one_change_of_what_was_edited(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20", v_SITENAME="New")
        page = page.submit("/save", reason=["Spring sale"])
        assert "Saved as revision 1" in page.text
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (20, "New")
        items = admin.worker.waffle.history()
        assert {item.name for item in items} == {"LIMIT", "SITENAME"}
        assert {(item.revision, item.reason) for item in items} == {(1, "Spring sale")}

    def test_nothing_edited_is_no_change(self, admin: Admin) -> None:
        page = admin.open().submit("/preview")
        assert "Nothing was changed" in page.text
        assert admin.worker.waffle.revision == 0

    def test_value_of_the_default_goes_back_to_the_default(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        admin.save(v_LIMIT="10")
        assert "LIMIT" not in admin.worker.state.snapshot.stored

    def test_reset(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20", v_SITENAME="New")
        page = admin.open().submit("/preview", r_LIMIT="1")
        assert page.text.count('role="rowheader"') == 1
        page.submit("/save")
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (10, "New")
        assert admin.worker.waffle.history()[0].new == "default"

    def test_unfit_values_are_told_at_their_fields_and_what_was_typed_is_kept(
        self, admin: Admin
    ) -> None:
        page = admin.open().submit("/preview", v_LIMIT="0", v_ANY='{\n "a": }', v_SITENAME="typed")
        assert page.code == 422
        assert "2 values are not valid" in page.text
        assert 'href="#f-LIMIT">LIMIT: it must be at least 1, got 0' in page.text
        assert "in line 2, column 7" in page.text
        assert page.control("LIMIT")["value"] == "0"
        assert page.control("LIMIT")["aria-invalid"] == "true"
        assert "e-LIMIT" in page.control("LIMIT")["aria-describedby"]
        assert page.control("SITENAME")["value"] == "typed"
        assert page.form("/preview")["v-ANY"] == ['{\r\n "a": }']
        summary = next(a for _, a in page.tags if a.get("role") == "alert")
        assert {"autofocus", "tabindex"} <= set(summary)
        assert admin.worker.waffle.revision == 0

    def test_corrected_page_can_be_saved(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="0", v_SITENAME="typed")
        page.submit("/preview", v_LIMIT="7").submit("/save")
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (7, "typed")

    def test_back_to_editing_keeps_what_was_typed(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20", vk_MAP=["b"], vv_MAP=["2"])
        page = page.submit("/save", to="/edit", reason=["why"])
        assert page.control("LIMIT")["value"] == "20"
        assert page.form("/preview")["reason"] == ["why"]
        page.submit("/preview", v_SITENAME="too").submit("/save")
        assert admin.conf["MAP"] == {"b": 2}
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (20, "too")

    def test_what_is_saved_is_checked_again(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20").submit("/save", v_LIMIT="0")
        assert page.code == 422
        assert admin.worker.waffle.revision == 0

    def test_unknown_and_hostile_fields_are_left_aside(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_GONE="1", revision=["x"], v_LIMIT="20")
        assert page.code == 200
        assert "Saved as revision 1" in page.submit("/save").text

    @pytest.mark.skipif(
        getattr(flask.Request.max_content_length, "fset", None) is None,
        reason="only from Flask 3.1 on has a request a limit of its own",
    )
    def test_upload_limit_of_the_app_does_not_lock_the_page(self, make_admin: MakeAdmin) -> None:
        admin = make_admin(MAX_CONTENT_LENGTH=10, MAX_FORM_MEMORY_SIZE=10)
        assert "Saved as revision 1" in admin.save(v_LIMIT="20").text

    def test_reason_that_is_too_long_is_named_and_kept(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20").submit("/save", reason=["x" * 501])
        assert page.code == 422
        assert "The reason has 501 characters" in page.text
        assert page.form("/save")["reason"] == ["x" * 501]
        assert "Saved as revision 1" in page.submit("/save", reason=["why"]).text

    @pytest.mark.parametrize("path", ["/preview", "/rollback?to=0"])
    def test_reason_that_no_store_can_keep_is_refused(self, admin: Admin, path: str) -> None:
        admin.save(v_LIMIT="20")
        page = admin.open(path) if "?" in path else admin.open().submit(path, v_LIMIT="30")
        page = page.submit("/rollback" if "?" in path else "/save", reason=["a\0b"])
        assert page.code == 422
        assert "The reason has a character that" in page.text
        assert admin.conf["LIMIT"] == 20

    def test_reason_may_be_required(self, make_admin: MakeAdmin) -> None:
        admin = make_admin(pages={"require_reason": True})
        page = admin.open().submit("/preview", v_LIMIT="20").submit("/save")
        assert page.code == 422
        assert "A reason is required" in page.text
        assert "Saved as revision 1" in page.submit("/save", reason=["why"]).text
        assert admin.open("/rollback?to=0").submit("/rollback").code == 422

    def test_store_that_fails_is_told_and_what_was_typed_is_kept(
        self, make_admin: MakeAdmin
    ) -> None:
        store = MemoryStore()
        admin = make_admin(store=store)
        page = admin.open().submit("/preview", v_SITENAME="typed")
        store.error = StoreUnavailable("the disk is read-only")
        page = page.submit("/save")
        assert page.code == 503
        assert "Nothing was saved" in page.text
        assert "the disk is read-only" in page.text
        store.error = None
        assert "Saved as revision 1" in page.submit("/save").text
        assert admin.conf["SITENAME"] == "typed"

    def test_going_back_with_an_unknown_outcome_is_not_said_to_have_changed_nothing(
        self, make_admin: MakeAdmin
    ) -> None:
        store = MemoryStore()
        admin = make_admin(store=store)
        admin.save(v_LIMIT="20")
        page = admin.open("/rollback?to=0")

        def lose(*_: object, **__: object) -> int:
            store.error = StoreUnavailable("it is gone")
            raise OutcomeUnknown("the commit was not answered")

        store.write = lose  # type: ignore[method-assign]
        page = page.submit("/rollback")
        assert page.code == 503
        assert "not known whether this was done" in page.text
        assert "Nothing was changed" not in page.text

    def test_history_of_a_store_that_fails(self, make_admin: MakeAdmin) -> None:
        store = MemoryStore()
        admin = make_admin(store=store)
        store.history = _fail  # type: ignore[method-assign]
        assert admin.open("/history").code == 503
        assert admin.open("/rollback?to=0").code in (200, 503)


def _fail(**_: object) -> Any:
    raise StoreUnavailable("no luck")


class TestConflict:
    def test_other_change_of_the_same_setting_is_shown_beside_ones_own(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20", v_SITENAME="Mine")
        admin.worker.waffle.update({"LIMIT": 30}, author="bob", reason="more")
        page = page.submit("/save")
        assert page.code == 409
        heading = "Someone else changed these settings"
        for shown in (heading, "<bdi>bob</bdi>", "<bdi>more</bdi>", ">30<", ">20<"):
            assert shown in page.text
        assert admin.conf["LIMIT"] == 30
        assert admin.conf["SITENAME"] == "Shop"

    def test_theirs_stays_unless_mine_is_ticked(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20", v_SITENAME="Mine")
        admin.worker.waffle.update({"LIMIT": 30})
        page.submit("/save").submit("/save")
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (30, "Mine")

    def test_mine_can_be_taken_over_again(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20")
        admin.worker.waffle.update({"LIMIT": 30})
        page.submit("/save").submit("/save", k_LIMIT="1")
        assert admin.conf["LIMIT"] == 20

    def test_conflict_again_and_again(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20")
        for limit in (30, 40):
            admin.worker.waffle.update({"LIMIT": limit})
            page = page.submit("/save", k_LIMIT="1")
            assert page.code == 409
        page.submit("/save", k_LIMIT="1")
        assert admin.conf["LIMIT"] == 20

    def test_editing_goes_on_after_a_conflict(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20")
        admin.worker.waffle.update({"LIMIT": 30})
        page = page.submit("/save").submit("/save", to="/edit")
        assert page.control("LIMIT")["value"] == "20"

    def test_old_page_is_compared_before_it_is_looked_over(self, admin: Admin) -> None:
        page = admin.open()
        admin.worker.waffle.update({"LIMIT": 30})
        assert page.submit("/preview", v_LIMIT="20").code == 409

    def test_old_page_does_not_undo_what_it_did_not_touch(self, admin: Admin) -> None:
        page = admin.open()
        admin.worker.waffle.update({"LIMIT": 30}, author="bob")
        page = page.submit("/preview", v_SITENAME="Mine")
        assert page.code == 200
        assert "Changed since" in page.text
        page.submit("/save")
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (30, "Mine")

    def test_same_change_by_somebody_else_is_no_conflict(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20")
        admin.worker.waffle.update({"LIMIT": 20})
        assert "Nothing was changed" in page.submit("/save").text

    def test_change_of_another_worker_is_seen(self, admin: Admin, make_worker: MakeWorker) -> None:
        page = admin.open().submit("/preview", v_LIMIT="20")
        make_worker(confs=CONFS).waffle.update({"LIMIT": 30})
        assert page.submit("/save").code == 409


class TestFormThatIsSentTwice:
    """By a double click where no script runs: the browser shows the answer to the second."""

    def test_saved_secret_is_not_said_to_be_unsaved_and_of_someone_else(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_TOKEN="new")
        page.submit("/save", v_TOKEN="new")
        again = page.submit("/save", v_TOKEN="new")
        assert again.code == 409
        assert "You changed these settings already" in again.text
        assert "If you pressed Save twice, it is saved" in again.text
        for false in ("Someone else", "Nothing of yours was saved"):
            assert false not in again.text

    def test_guess_at_the_secret_that_was_saved_gets_the_same_answer(self, admin: Admin) -> None:
        right, wrong = (admin.open().submit("/preview", v_TOKEN=text) for text in ("new", "other"))
        right.submit("/save", v_TOKEN="new")
        for page, typed in ((right, "new"), (wrong, "other")):
            again = page.submit("/save", v_TOKEN=typed)
            assert again.code == 409
            assert "You changed these settings already" in again.text

    def test_one_without_a_name_may_be_oneself(self, make_admin: MakeAdmin) -> None:
        admin = make_admin(lambda: True)
        page = admin.open().submit("/preview", v_TOKEN="new")
        page.submit("/save", v_TOKEN="new")
        again = page.submit("/save", v_TOKEN="new")
        assert "These settings were changed already" in again.text
        assert "Someone else" not in again.text

    @pytest.mark.parametrize("way", ["undo=1", "to=0"])
    def test_way_back_that_is_gone_already_is_no_conflict(self, admin: Admin, way: str) -> None:
        admin.save(v_LIMIT="20")
        page = admin.open(f"/rollback?{way}")
        assert "Saved as revision 2" in page.submit("/rollback").text
        again = page.submit("/rollback")
        assert "Nothing was changed: what you sent is current already" in again.text
        assert admin.worker.state.snapshot.revision == 2


class TestHistory:
    def test_history_tells_who_what_when_why(self, admin: Admin) -> None:
        admin.open().submit("/preview", v_LIMIT="20").submit("/save", reason=["Spring sale"])
        text = admin.open("/history").text
        for shown in ("Revision 1", "ann", "“Spring sale”", "LIMIT", ">10<", ">20<"):
            assert shown in text

    def test_history_of_one_setting(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        admin.save(v_SITENAME="New")
        page = admin.open("/history?name=LIMIT")
        assert "Revision 1" in page.text
        assert "Revision 2<" not in page.text.replace('"wa-pill">Revision 2<', "")

    def test_history_has_pages(self, admin: Admin) -> None:
        for limit in range(20, 80):
            admin.worker.waffle.update({"LIMIT": limit})
        first, second = admin.open("/history"), admin.open("/history?page=2")
        assert 'id="c-60"' in first.text
        assert 'id="c-10"' not in first.text
        assert "Older" in first.text
        assert 'id="c-10"' in second.text
        assert "Older" not in second.text
        assert admin.open("/history?page=-3").code == admin.open("/history?page=x").code == 200

    def test_rollback_is_looked_over_and_saved(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20", v_SITENAME="New")
        admin.save(v_LIMIT="30")
        page = admin.open("/rollback?to=1")
        assert "Go back to revision 1?" in page.text
        assert page.text.count('role="rowheader"') == 1
        page = page.submit("/rollback", reason=["oops"])
        assert "Saved as revision 3" in page.text
        assert admin.conf["LIMIT"] == 20
        item = admin.worker.waffle.history()[0]
        assert (item.author, item.reason) == ("ann", "oops")

    def test_one_setting_alone_goes_back(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20", v_SITENAME="New")
        admin.open("/rollback?to=0&name=LIMIT").submit("/rollback")
        assert (admin.conf["LIMIT"], admin.conf["SITENAME"]) == (10, "New")

    def test_rollback_that_somebody_overtook_is_shown_again(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        page = admin.open("/rollback?to=0")
        admin.worker.waffle.update({"SITENAME": "Theirs"})
        page = page.submit("/rollback")
        assert page.code == 409
        assert admin.conf["SITENAME"] == "Theirs"
        page.submit("/rollback")
        assert admin.conf["SITENAME"] == "Shop"

    def test_rollback_to_what_is_served_changes_nothing(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        assert "Nothing differs" in admin.open("/rollback?to=1").text

    def test_rollback_names_what_was_changed_in_the_database_by_hand(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20", v_SITENAME="One")
        admin.save(v_LIMIT="30")
        with contextlib.closing(sqlite3.connect(admin.worker.folder / "waffle.db")) as connection:
            connection.execute("DELETE FROM waffle_settings WHERE name = 'SITENAME'")
            connection.commit()
        for path in ("/rollback?to=1", "/rollback?to=2"):
            page = admin.open(path)
            assert "Changed in the database without an entry in the history" in page.text
            assert "as they are: SITENAME." in page.text

    @pytest.mark.parametrize("query", ["to=99", "to=-1", "to=x", ""])
    def test_unknown_revision_is_refused(self, admin: Admin, query: str) -> None:
        assert admin.open(f"/rollback?{query}").code == 422

    def test_value_that_does_not_fit_any_more_is_named(self, make_admin: MakeAdmin) -> None:
        admin = make_admin()
        admin.worker.state.store.write({"LIMIT": "5000"})
        admin.worker.state.store.write({"LIMIT": "20"})
        page = admin.open("/rollback?to=1")
        assert page.code == 422
        assert "it must be at most 1000" in page.text


class TestWorkers:
    def test_this_worker_is_listed(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        text = admin.open("/workers").text
        assert "VALID" in text
        assert "at revision 1" in text
        assert "all at" not in text

    def test_store_that_fails_leaves_this_worker(self, make_admin: MakeAdmin) -> None:
        store = MemoryStore()
        admin = make_admin(store=store)
        store.workers = lambda max_age_s: _fail()  # type: ignore[method-assign]
        page = admin.open("/workers")
        assert page.code == 200
        assert "Only this worker is known" in page.text

    def test_host_that_is_silent_is_named(self, admin: Admin) -> None:
        admin.worker.state.store.report(a_host(0, processes=3, silent_s=-1.0))
        text = admin.open("/workers").text
        assert "web2 (3 processes) at revision 0: the host is silent for" in text

    def test_reach_of_a_change_names_who_does_not_serve_it(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        path = "/settings/reach?revision=1"
        assert admin.client.get(path).json == {"have": 1, "of": 1, "late": []}
        admin.worker.state.store.report(a_report(revision=0))
        reach: Any = admin.client.get(path).json
        assert (reach["have"], reach["of"]) == (1, 2)
        (late,) = reach["late"]
        assert "web1 worker 1 (pid 101) at revision 0" in late

    def test_reach_counts_nothing_that_is_not_known(
        self, admin: Admin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admin.save(v_LIMIT="20")
        store = admin.worker.state.store
        monkeypatch.setattr(store, "workers", raising(StoreUnavailable("down")))
        reach: Any = admin.client.get("/settings/reach?revision=1").json
        assert (reach["have"], reach["of"]) == (1, None)
        assert reach["late"] == ["the store: which other hosts there are is not known: down"]

    @pytest.mark.parametrize("interval_s", [0, 10])
    def test_pages_say_if_other_hosts_are_not_known(
        self, make_admin: Callable[..., Admin], interval_s: int
    ) -> None:
        admin = make_admin(WAFFLE_REPORT_INTERVAL=interval_s)
        saved, workers = admin.save(v_LIMIT="20").text, admin.open("/workers").text
        why = "WAFFLE_REPORT_INTERVAL is 0"
        assert (f"Other hosts are not known, and not counted: {why}" in saved) is (not interval_s)
        assert (f"Only this worker is known: {why}" in workers) is (not interval_s)

    def test_reach_names_three_and_counts_the_others(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        for pid in range(101, 106):
            admin.worker.state.store.report(a_report(revision=0, pid=pid))
        reach: Any = admin.client.get("/settings/reach?revision=1").json
        assert (reach["of"], len(reach["late"]), reach["late"][-1]) == (6, 4, "and 2 more")

    def test_reach_counts_the_processes_of_a_host_that_has_not_answered(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20")
        admin.worker.state.store.report(a_host(0, processes=3))
        reach: Any = admin.client.get("/settings/reach?revision=1").json
        assert (reach["have"], reach["of"], len(reach["late"])) == (1, 4, 1)


class TestSecrets:
    def test_secret_is_in_no_response(self, admin: Admin) -> None:
        secrets = ("hush-1", "hush-2", "hush-3")
        pages = [admin.open()]
        pages.append(pages[-1].submit("/preview", v_TOKEN="hush-2", v_LIMIT="20"))
        pages.append(pages[-1].submit("/save", to="/edit"))
        pages.append(pages[1].submit("/save", v_TOKEN="other"))
        pages.append(pages[1].submit("/save", v_TOKEN="hush-2"))
        assert admin.conf["TOKEN"] == "hush-2"
        pages.append(admin.open().submit("/preview", v_TOKEN="hush-3"))
        admin.worker.waffle.update({"TOKEN": "hush-1"})
        pages.append(pages[-1].submit("/save", v_TOKEN="hush-3"))
        assert pages[-1].code == 409
        pages.append(admin.open().submit("/preview", v_TOKEN="hush-3", v_LIMIT="0"))
        pages += [admin.open(path) for path in ("/", "/history", "/workers", "/rollback?to=0")]
        pages.append(admin.open("/?q=hush"))
        for page in pages:
            assert not [secret for secret in secrets if secret in page.text]
            assert not [s for s in secrets if s in str(page.response.headers)]

    def test_secret_is_typed_twice(self, admin: Admin) -> None:
        page = admin.open().submit("/preview", v_TOKEN="new")
        missing = page.submit("/save")
        assert missing.code == 422
        assert "type it once more" in missing.text
        wrong = missing.submit("/save", v_TOKEN="mew")
        assert wrong.code == 422
        assert "not what you typed before" in wrong.text
        assert "Saved as revision 1" in wrong.submit("/save", v_TOKEN="new").text
        assert admin.conf["TOKEN"] == "new"

    def test_empty_secret_is_left_as_it_is(self, admin: Admin) -> None:
        admin.save(v_LIMIT="20", v_TOKEN="")
        assert admin.conf["TOKEN"] == "hush-1"

    @pytest.mark.parametrize("typed", ["hush-1", "wrong"])
    def test_page_does_not_tell_whether_a_secret_was_guessed(
        self, admin: Admin, typed: str
    ) -> None:
        page = admin.open().submit("/preview", v_TOKEN=typed)
        assert page.text.count('role="rowheader"') == 1
        page = page.submit("/save", v_TOKEN=typed)
        assert "Saved as revision 1" in page.text
        assert "r-TOKEN" in page.text

    def test_secret_is_reset(self, admin: Admin) -> None:
        admin.worker.waffle.update({"TOKEN": "new"})
        admin.save(r_TOKEN="1")
        assert admin.conf["TOKEN"] == "hush-1"

    def test_secret_goes_back_without_being_shown(self, admin: Admin) -> None:
        admin.worker.waffle.update({"TOKEN": "new"})
        page = admin.open("/rollback?to=0")
        assert "new<" not in page.text
        page.submit("/rollback")
        assert admin.conf["TOKEN"] == "hush-1"

    def test_secret_that_somebody_else_changed_is_a_conflict(self, admin: Admin) -> None:
        page = admin.open()
        admin.worker.waffle.update({"TOKEN": "theirs"})
        page = page.submit("/preview", v_TOKEN="mine")
        assert page.code == 409
        page.submit("/save", v_TOKEN="mine", k_TOKEN="1")
        assert admin.conf["TOKEN"] == "mine"

    def test_unfit_secret_is_not_quoted(self, make_admin: MakeAdmin) -> None:
        confs = {
            "PIN": {"desc": "d", "default": 1234, "min": 1000, "max": 9999, "secret": True},
            "KEYS": {"desc": "d", "default": {"a": "b"}, "secret": True},
        }
        admin = make_admin(confs=confs)
        for typed in ({"v_PIN": "77"}, {"v_PIN": "hush-9"}, {"v_KEYS": "{hush-9"}):
            page = admin.open().submit("/preview", **typed)
            assert page.code == 422
            assert "hush-9" not in page.text
            assert "77" not in page.text.split("<h1>")[0].split("<main")[1]
        page = admin.open().submit("/preview", v_KEYS='{"a": "c"}')
        page.submit("/save", v_KEYS='{"a": "c"}')
        assert admin.conf["KEYS"] == {"a": "c"}

    def test_undeclared_history_is_masked(self, admin: Admin) -> None:
        admin.worker.state.store.write({"GONE": '"hush-4"'})
        admin.worker.waffle.refresh()
        assert "hush-4" not in admin.open("/history").text


HOSTILE = "\"><script>alert(1)</script>'{{7*7}}"


class TestEscaping:
    def test_hostile_names_values_and_descriptions_are_escaped(self, make_admin: MakeAdmin) -> None:
        names = [HOSTILE, "a.b c/ä&", "csrf_token", "revision", "a\nb", "a%2Eb", "a.b"]
        confs: dict[str, dict[str, Any]] = {
            name: {"desc": HOSTILE, "default": HOSTILE, "group": HOSTILE} for name in names
        }
        confs["CHOICE"] = {"desc": "d", "default": HOSTILE, "choices": [HOSTILE, "</option>"]}
        admin = make_admin(lambda: True, author=lambda: HOSTILE, confs=confs)
        page = admin.open()
        typed = {key: [f"{HOSTILE} {key}"] for key in page.form("/preview") if key[:2] == "v-"}
        typed["v-CHOICE"] = ['"</option>"']
        fields = {**page.form("/preview"), **typed}
        page = browse(admin.client, "/settings/preview", fields, method="post")
        assert page.code == 200
        saved = page.submit("/save", reason=[HOSTILE])
        assert "Saved as revision 1" in saved.text
        assert len({admin.conf[name] for name in names}) == len(names)
        pages = [page, saved, admin.open("/history"), admin.open("/workers")]
        pages.append(browse(admin.client, "/settings/history", {"name": [HOSTILE]}))
        pages.append(browse(admin.client, "/settings/", {"q": [HOSTILE]}))
        pages.append(admin.open("/rollback?to=0"))
        for page in pages:
            assert page.code == 200
            assert "<script>alert" not in page.text
            assert "&#39;49" not in page.text
            assert [a for t, a in page.tags if t == "script"] == [
                {"src": f"/settings/assets/waffle_admin.js?v={__version__}", "defer": ""}
            ]


TURNED = "no \u202eevil\u2066"


class TestTextThatTurns:
    """U+202E shows what follows from right to left: "evil" is read as "live"."""

    def test_value_is_shown_with_it_as_an_escape(self, make_admin: MakeAdmin) -> None:
        confs = {"OURS": {"desc": "d", "default": "x"}, "THEIRS": {"desc": "d", "default": TURNED}}
        admin = make_admin(lambda: Access("ann", edit=["OURS"]), confs=confs)
        page = admin.open()
        assert r"no \u202eevil\u2066</p>" in page.text
        page = page.submit("/preview", v_OURS=TURNED)
        assert r">no \u202eevil\u2066</span>" in page.text
        page.submit("/save")
        assert admin.conf["OURS"] == TURNED
        assert r">no \u202eevil\u2066</span>" in admin.open("/history").text

    def test_marks_that_scripts_and_emoji_need_stay(self, make_admin: MakeAdmin) -> None:
        text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f33e \u200f"
        admin = make_admin(confs={"OURS": {"desc": "d", "default": "x"}})
        assert f">{text}</span>" in admin.open().submit("/preview", v_OURS=text).text

    def test_name_and_reason_turn_nothing_beside_them(self, admin: Admin) -> None:
        admin.worker.waffle.update({"LIMIT": 20}, author=TURNED, reason=TURNED)
        for path in ("/", "/history"):
            assert f"<bdi>{TURNED}</bdi>" in admin.open(path).text


class TestPlaces:
    def test_several_apps_share_one_blueprint(
        self, make_worker: MakeWorker, tmp_path: Path
    ) -> None:
        blueprint = WaffleConf().admin_blueprint(lambda: True)
        admins = []
        for number, name in enumerate(("ONE", "TWO")):
            confs = {name: {"desc": "d", "default": "x"}}
            folder = tmp_path / name
            folder.mkdir()
            worker = make_worker(where=folder, confs=confs, SECRET_KEY="k")
            worker.app.register_blueprint(blueprint, url_prefix=f"/{number}/deep/")
            admins.append(Admin(worker, f"/{number}/deep"))
        first, second = admins
        assert "Saved as revision 1" in first.save(v_ONE="changed").text
        assert "f-ONE" not in second.open().text
        assert second.conf == {"TWO": "x"}

    def test_two_blueprints_in_one_app(self, admin: Admin) -> None:
        blueprint = admin.worker.waffle.admin_blueprint(lambda: "bob", name="other")
        # The app has served nothing yet, so it takes another blueprint.
        admin.worker.app.register_blueprint(blueprint, url_prefix="/other")
        Admin(admin.worker, "/other").save(v_LIMIT="20")
        admin.save(v_LIMIT="30")
        assert [item.author for item in admin.worker.waffle.history()] == ["ann", "bob"]

    def test_nested_below_a_script_name(self, admin: Admin) -> None:
        answer = admin.client.get("/settings/", environ_overrides={"SCRIPT_NAME": "/shop"})
        assert 'action="/shop/settings/preview"' in answer.text
