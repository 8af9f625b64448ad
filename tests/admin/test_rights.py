"""What somebody may see and change on the admin page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask

from uwsgi_waffle.admin import Access
from uwsgi_waffle.admin.access import Guard

from ..support.forms import browse
from ..support.rig import Worker
from .test_views import Admin

CONFS: dict[str, dict[str, Any]] = {
    "PRICE": {"desc": "d", "default": 1, "group": "Shop"},
    "TAX": {"desc": "d", "default": 2, "group": "Shop", "role": "accounts"},
    "HOST": {"desc": "d", "default": "h", "group": "Mail"},
    "PASSWORD": {"desc": "d", "default": "hush", "group": "Mail", "secret": True},
    "FREE": {"desc": "d", "default": 3},
}


@pytest.fixture
def admit(make_worker: Callable[..., Worker]) -> Callable[[Access], Admin]:
    def admit(access: Access) -> Admin:
        worker = make_worker(confs=CONFS, SECRET_KEY="k")
        blueprint = worker.waffle.admin_blueprint(lambda: access)
        worker.app.register_blueprint(blueprint, url_prefix="/settings")
        return Admin(worker)

    return admit


Admit = Callable[[Access], Admin]


@pytest.mark.parametrize(
    ("access", "editable"),
    [
        (Access(), set()),
        (Access(edit={"Shop"}), {"PRICE"}),
        (Access(edit={"Shop"}, roles={"accounts"}), {"PRICE", "TAX"}),
        (Access(edit={"Mail"}), {"HOST"}),
        (Access(edit={"Mail"}, secrets=True), {"HOST", "PASSWORD"}),
        (Access(edit={"General", "HOST"}), {"FREE", "HOST"}),
        (Access(edit=True), {"PRICE", "HOST", "FREE"}),
        (Access(edit=True, secrets=True, roles={"accounts"}), set(CONFS)),
    ],
)
def test_only_what_may_be_changed_has_a_control_and_is_saved(
    admit: Admit, access: Access, editable: set[str]
) -> None:
    admin = admit(access)
    page = admin.open()
    assert {name for name in CONFS if f"b-{name}" in page.form("/preview")} == editable
    assert page.text.count(">locked<") == len(CONFS) - len(editable)
    for name in CONFS:
        fields = admin.open().form("/preview")
        fields[f"v-{name}"] = ["9"]
        answer = browse(admin.client, "/settings/preview", fields, method="post")
        assert (answer.code == 200) is (name in editable)
        if name not in editable:
            assert "you may not change this" in answer.text


def test_what_may_not_be_seen_is_on_no_page(admit: Admit) -> None:
    admin = admit(Access(view={"Shop"}, edit={"FREE"}))
    admin.worker.waffle.update({"HOST": "elsewhere", "PRICE": 7})
    for path in ("/", "/history", "/history?name=HOST"):
        text = admin.open(path).text
        assert "elsewhere" not in text
        assert ">HOST<" not in text
    assert "PRICE" in admin.open("/history").text


@pytest.mark.parametrize("query", ["to=0", "undo=1"])
def test_nobody_goes_back_over_what_may_not_be_changed(admit: Admit, query: str) -> None:
    admin = admit(Access("ann", view={"Shop"}, edit={"Shop"}))
    admin.worker.waffle.update({"HOST": "elsewhere", "PRICE": 7})
    page = admin.open(f"/rollback?{query}")
    assert page.code == 422
    assert "elsewhere" not in page.text
    admin.open(f"/rollback?{query}&name=PRICE").submit("/rollback")
    assert (admin.conf["PRICE"], admin.conf["HOST"]) == (1, "elsewhere")
    assert admin.worker.waffle.history()[0].author == "ann"


@pytest.mark.parametrize("query", ["to=1", "undo=2", "to=1&name=PRICE", "to=0"])
def test_refused_way_back_shows_nothing_of_what_may_not_be_seen(admit: Admit, query: str) -> None:
    admin = admit(Access("ann", view={"Shop"}, edit={"Shop"}))
    write = admin.worker.state.store.write
    # Of a release before: one does not fit any more, one is not declared any more.
    write({"FREE": '"elsewhere"', "GONE": "1", "PRICE": '"dear"'})
    write({"FREE": "4", "GONE": None, "PRICE": "5"})
    page = admin.open(f"/rollback?{query}")
    for hidden in ("elsewhere", "FREE", "GONE"):
        assert hidden not in page.text
    if query != "to=0":
        assert page.code == 422
        assert "PRICE</strong>: its value of then does not fit any more" in page.text


def test_setting_that_may_not_be_seen_is_as_one_that_is_not_there(
    make_worker: Callable[..., Worker],
) -> None:
    confs = {**CONFS, "HOST": {**CONFS["HOST"], "label": "The mail server"}}
    worker = make_worker(confs=confs, SECRET_KEY="k")
    access = Access("ann", view={"Shop"}, edit={"Shop"})
    worker.app.register_blueprint(
        worker.waffle.admin_blueprint(lambda: access), url_prefix="/settings"
    )
    admin = Admin(worker)
    worker.waffle.update({"HOST": "elsewhere", "PRICE": 7})
    worker.waffle.update({"HOST": "h", "PRICE": 8})
    for path in ("/history?", "/rollback?to=1&", "/rollback?undo=1&"):
        real = admin.open(f"{path}name=HOST")
        other = admin.open(f"{path}name=NOSUCH")
        assert real.code == other.code
        assert real.text.replace("HOST", "NOSUCH") == other.text
    for path in ("/edit", "/preview", "/save"):
        answers = []
        for name in ("HOST", "NOSUCH"):
            fields = admin.open().form("/preview")
            fields[f"v-{name}"] = ["x"]
            answers.append(browse(admin.client, f"/settings{path}", fields, method="post"))
        assert answers[0].code == answers[1].code
        assert "HOST" not in answers[0].text


def test_nobody_is_let_in_by_a_redirect() -> None:
    app = Flask("x")
    with app.test_request_context():
        assert not Guard(lambda: flask.redirect("/login")).allows()
        assert Guard(lambda: True).allows()
        assert not Guard(lambda: flask.abort(403)).allows()


def test_pinned_setting_is_shown_locked_and_never_changed(
    make_worker: Callable[..., Worker],
) -> None:
    confs = {
        "LIMIT": {"desc": "d", "default": 5, "pinned": True},
        "OPEN": {"desc": "d", "default": True},
    }
    worker = make_worker(confs=confs, SECRET_KEY="k")
    worker.app.register_blueprint(
        worker.waffle.admin_blueprint(lambda: True), url_prefix="/settings"
    )
    admin = Admin(worker)
    page = admin.open()
    assert page.control("LIMIT")["tag"] == "p"
    assert ">pinned</span>" in page.text
    assert "no change is taken" in page.text
    forged = page.submit("/preview", v_LIMIT="9", v_OPEN=["false"])
    assert forged.code == 422
    assert "it is pinned" in forged.text
    assert worker.waffle.revision == 0
