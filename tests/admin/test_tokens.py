"""What the admin page signs can't be forged, shifted or guessed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from flask import Flask, Response, session

from uwsgi_waffle.admin.drafts import Draft, Entry, Outcome, prove
from uwsgi_waffle.admin.headers import protect
from uwsgi_waffle.admin.tokens import is_signed, make_token, sign, was_ours
from uwsgi_waffle.reporting.reporter import make_report

from ..support.forms import browse
from .test_views import Admin, admin, make_admin

__all__ = ["admin", "make_admin"]


def signed(key: str | bytes, purpose: str, *parts: str) -> str:
    app = Flask("x")
    app.secret_key = key
    with app.app_context():
        return sign(purpose, *parts)


def test_signature_depends_on_key_purpose_and_the_borders_of_parts() -> None:
    made = {
        signed("k", "base", "ab", "c"),
        signed("other", "base", "ab", "c"),
        signed("k", "proof", "ab", "c"),
        signed("k", "base", "a", "bc"),
        signed("k", "base", "ab\0c"),
        signed("k", "base", "a\0b", "c"),
        signed("k", "base", "a", "b\0c"),
    }
    assert len(made) == 7
    assert signed("k", "base", "ab") == signed(b"k", "base", "ab")


def test_proof_that_is_made_without_the_key_is_refused(admin: Admin) -> None:
    page = admin.open().submit("/preview", v_TOKEN="new")
    forged = page.submit("/save", v_TOKEN="mew", p_TOKEN=signed("", "proof", "TOKEN", "mew"))
    assert forged.code == 422
    assert admin.conf["TOKEN"] == "hush-1"


def test_base_does_not_pass_as_a_proof(admin: Admin) -> None:
    admin.worker.app.secret_key = "k"
    with admin.worker.app.app_context():
        assert not is_signed(sign("base", "TOKEN", "mew"), "proof", "TOKEN", "mew")


def test_lone_surrogates_in_a_form_give_a_page(admin: Admin) -> None:
    with admin.worker.app.app_context():
        assert is_signed(prove("X", "\ud800"), "proof", "X", "\ud800")


def test_session_that_is_gone_is_not_only_called_a_page_that_is_too_old(admin: Admin) -> None:
    fields = admin.open().form("/preview")
    fields["v-LIMIT"] = ["20"]
    admin.client.delete_cookie("session")
    headers = {"Sec-Fetch-Site": "same-origin"}
    page = admin.client.post("/settings/preview", data=fields, headers=headers)
    assert page.status_code == 400
    assert "or your session ended. Nothing was saved" in page.text
    assert 'value="20"' in page.text


@pytest.mark.parametrize("path", ["/preview", "/save", "/edit"])
def test_bytes_that_are_no_text_in_a_form_give_a_page(admin: Admin, path: str) -> None:
    token = admin.open().form("/preview")["csrf_token"][0]
    body = f"csrf_token={token}&v-SITENAME=%ED%A0%80%FF&b-SITENAME=text.x&revision=0"
    answer = admin.client.post(
        f"/settings{path}", data=body, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code < 500


def test_page_has_nothing_that_two_equal_secrets_would_share(admin: Admin) -> None:
    before = admin.open().form("/preview")["b-TOKEN"]
    admin.worker.waffle.update({"TOKEN": "guess"})
    assert admin.open().form("/preview")["b-TOKEN"] == before


def test_rollback_does_not_show_whether_a_secret_was_guessed(admin: Admin) -> None:
    admin.worker.waffle.update({"TOKEN": "real"})
    for guess in ("real", "wrong"):
        admin.worker.waffle.update({"TOKEN": guess})
        page = admin.open("/rollback?to=1&name=TOKEN")
        assert page.text.count('role="rowheader"') == 1
        assert "Nothing differs" not in page.text


def test_repr_of_a_draft_shows_no_text() -> None:
    draft = Draft(1, {"TOKEN": Entry("hush-9", proof="p")})
    outcome = Outcome({"TOKEN": '"hush-9"'}, {}, frozenset())
    assert "hush-9" not in repr(draft) + repr(outcome) + repr(draft.entries)


def test_header_that_the_app_set_stays() -> None:
    response = Response(headers={"X-Frame-Options": "SAMEORIGIN"})
    protect(response, policy="default-src 'none'")
    assert response.headers.getlist("X-Frame-Options") == ["SAMEORIGIN"]
    assert response.headers["Content-Security-Policy"] == "default-src 'none'"


def test_form_without_a_base_is_no_conflict(admin: Admin) -> None:
    fields = admin.open().form("/preview")
    fields["v-LIMIT"] = ["20"]
    del fields["b-LIMIT"]
    assert browse(admin.client, "/settings/preview", fields, method="post").code == 200


def test_change_that_a_form_was_made_from_is_not_news(admin: Admin) -> None:
    admin.worker.waffle.update({"LIMIT": 30}, author="bob")
    page = admin.open()
    admin.worker.waffle.update({"OPEN": True}, author="eve")
    page = page.submit("/preview", v_SITENAME="Mine")
    assert "<bdi>eve</bdi>" in page.text
    assert "<bdi>bob</bdi>" not in page.text


def test_own_worker_is_listed_once_after_it_reported(admin: Admin) -> None:
    state = admin.worker.state
    report = make_report(state.engine.status(), app=state.app.name, lifetime_s=60.0)
    state.store.report(report)
    assert "1 process," in admin.open("/workers").text


def test_rollback_without_a_revision_is_not_made(admin: Admin) -> None:
    admin.save(v_LIMIT="20")
    fields = admin.open("/rollback?to=0").form("/rollback")
    del fields["revision"]
    assert browse(admin.client, "/settings/rollback", fields, method="post").code == 409
    assert admin.conf["LIMIT"] == 20


def test_rollback_is_compared_with_what_another_worker_just_changed(
    admin: Admin, make_worker: Callable[..., object]
) -> None:
    admin.save(v_LIMIT="20")
    other = make_worker(confs=admin.worker.app.config["WAFFLE_CONFS"])
    other.waffle.update({"LIMIT": 55})  # type: ignore[attr-defined]
    assert ">55<" in admin.open("/rollback?to=0").text


def test_rows_of_the_history_that_are_damaged_are_left_out_and_counted(admin: Admin) -> None:
    admin.save(v_LIMIT="20")
    store = admin.worker.state.store
    sound = store.history(limit=10)
    bad = [entry._replace(at="no time") for entry in sound]  # type: ignore[arg-type]
    bad += [entry._replace(name=7, author=[]) for entry in sound]  # type: ignore[arg-type]
    store.history = lambda **_: [*bad, *sound]  # type: ignore[method-assign]
    page = admin.open("/history")
    assert page.code == 200
    assert "2 rows of the history can't be read" in page.text
    assert 'id="c-1"' in page.text
    assert admin.open().code == 200


def test_history_that_can_not_be_read_at_all_is_a_page(admin: Admin) -> None:
    admin.save(v_LIMIT="20")

    def damaged(**_: object) -> list[object]:
        raise ValueError("no time")

    admin.worker.state.store.history = damaged  # type: ignore[method-assign,assignment]
    assert "damaged" in admin.open("/history").text
    assert admin.open("/rollback?to=0").code in (422, 503)


def test_report_that_is_damaged_is_left_out(admin: Admin) -> None:
    state = admin.worker.state
    report = make_report(state.engine.status(), app="x", lifetime_s=60.0)
    bad = report._replace(revision="seven", pid=3)  # type: ignore[arg-type]
    state.store.workers = lambda _: [bad]  # type: ignore[method-assign,assignment]
    page = admin.open("/workers")
    assert page.code == 200
    assert "left out, because damaged: 1 report" in page.text


def test_what_was_typed_into_a_page_of_last_year_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(
        "flask_wtf.csrf.validate_csrf", lambda data, time_limit: limits.append(time_limit)
    )
    with Flask("shop").test_request_context(method="POST"):
        assert was_ours("ann")
    assert limits[0] > 365 * 86_400


def test_form_of_this_session_is_ours_however_old_it_is(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = admin.worker.app
    with app.test_request_context():
        token = make_token("ann")
        kept = dict(session)
    now = time.time()
    # A year, after which Flask-WTF's own check takes no form any more.
    monkeypatch.setattr(time, "time", lambda: now + 365 * 86_400)
    for value, ours in ((token.value, True), (f"{token.value}x", False)):
        with app.test_request_context(method="POST", data={token.name: value}):
            session.update(kept)
            assert was_ours("ann") is ours


@pytest.mark.parametrize(
    ("author", "site", "ours"),
    [
        ("ann", "same-origin", True),
        ("ann", "same-site", False),
        ("ann", None, False),
        ("bob", "same-origin", False),
        (None, "same-origin", False),
    ],
)
def test_form_of_a_session_that_is_gone_is_that_of_its_person_and_origin(
    admin: Admin, author: str | None, site: str | None, ours: bool
) -> None:
    app = admin.worker.app
    with app.test_request_context():
        token = make_token("ann")
    data = {token.name: token.value, "made_for": token.made_for}
    headers = {"Sec-Fetch-Site": site} if site else {}
    with app.test_request_context(method="POST", data=data, headers=headers):
        assert was_ours(author) is ours
    with app.test_request_context():
        anonymous = make_token(None).made_for
    assert anonymous != token.made_for
    assert len(anonymous) == 32
