"""The settings as a view of Flask-Admin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import flask
import pytest

from uwsgi_waffle import ConfigurationError

from ..support.forms import browse
from ..support.rig import Worker
from .test_views import CONFS, Admin

flask_admin = pytest.importorskip("flask_admin", reason="Flask-Admin is missing")

MakeAdmin = Callable[..., Admin]


@pytest.fixture
def make_admin(make_worker: Callable[..., Worker]) -> MakeAdmin:
    from uwsgi_waffle.admin.flask_admin import SettingsView

    def make(authorize: Any = lambda: "ann", *, view: Any = SettingsView) -> Admin:
        worker = make_worker(confs=CONFS, SECRET_KEY="k")
        site = flask_admin.Admin(worker.app, name="Back office")
        site.add_view(view(authorize))
        return Admin(worker, "/admin/waffle_settings")

    return make


def test_settings_are_changed_within_flask_admin(make_admin: MakeAdmin) -> None:
    admin = make_admin()
    page = admin.open()
    assert "Back office" in page.text
    assert ">SITENAME<" in page.text
    page = admin.open().submit("/preview", v_LIMIT="20")
    assert "Back office" in page.text
    assert "Saved as revision 1" in page.submit("/save").text
    assert admin.conf["LIMIT"] == 20
    assert admin.worker.waffle.history()[0].author == "ann"


def test_every_page_is_within_flask_admin(make_admin: MakeAdmin) -> None:
    admin = make_admin()
    admin.save(v_LIMIT="20")
    for path in ("/", "/history", "/workers", "/rollback?to=0", "/rollback?to=9"):
        page = admin.open(path)
        assert "Back office" in page.text
        kept = "private, no-cache" if path == "/" else "no-store"
        assert page.response.headers["Cache-Control"] == kept
    admin.open("/rollback?to=0").submit("/rollback")
    assert admin.conf["LIMIT"] == 10
    with admin.client.get("/admin/waffle_settings/assets/waffle_admin.css") as answer:
        assert answer.status_code == 200


def test_forms_need_a_token(make_admin: MakeAdmin) -> None:
    admin = make_admin()
    fields = admin.open().form("/preview")
    del fields["csrf_token"]
    page = browse(admin.client, f"{admin.prefix}/save", fields, method="post")
    assert page.code == 400


@pytest.mark.parametrize("authorize", [None, lambda: False, lambda: flask.abort(403)])
def test_everybody_is_refused_until_authorize_says_yes(
    make_admin: MakeAdmin, authorize: Any
) -> None:
    admin = make_admin(authorize)
    for path in ("/", "/history", "/workers", "/rollback", "/assets/waffle_admin.css"):
        assert admin.open(path).code == 403
    for path in ("/edit", "/preview", "/save", "/rollback"):
        assert admin.client.post(f"{admin.prefix}{path}").status_code == 403


@pytest.mark.parametrize("allowed", [True, False])
def test_menu_shows_the_view_to_whom_it_lets_in(make_admin: MakeAdmin, allowed: bool) -> None:
    admin = make_admin(lambda: allowed)
    assert ("waffle_settings" in browse(admin.client, "/admin/").text) is allowed


def test_response_of_authorize_is_sent(make_admin: MakeAdmin) -> None:
    admin = make_admin(lambda: flask.redirect("/login"))
    assert admin.client.get(f"{admin.prefix}/").location == "/login"


def test_subclass_may_refuse_too(make_admin: MakeAdmin) -> None:
    from uwsgi_waffle.admin.flask_admin import SettingsView

    class Closed(SettingsView):
        def is_accessible(self) -> bool:
            return False

    assert make_admin(view=Closed).open().code == 403


def test_missing_flask_admin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "uwsgi_waffle.admin.flask_admin", raising=False)
    monkeypatch.setitem(sys.modules, "flask_admin", None)
    with pytest.raises(ConfigurationError, match="pip install Flask-Admin"):
        import uwsgi_waffle.admin.flask_admin  # noqa: F401
