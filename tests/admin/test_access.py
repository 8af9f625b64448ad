"""Who is let in, under which name, and which rights what ``authorize`` returns stands for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from flask import Flask
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from uwsgi_waffle import ConfigurationError
from uwsgi_waffle.admin.access import (
    EVERYTHING,
    Access,
    Guard,
    current_access,
    current_author,
    why_locked,
)
from uwsgi_waffle.settings.declarations import Declaration
from uwsgi_waffle.settings.declare import declare

SETTINGS = declare(
    {
        "OPEN": {"desc": "d", "default": 1},
        "TAX": {"desc": "d", "default": 1, "group": "Shop", "role": "accounts"},
        "KEY": {"desc": "d", "default": "x", "group": "Shop", "secret": True},
    }
)


@pytest.fixture(autouse=True)
def _in_a_request() -> Any:
    with Flask("shop").test_request_context():
        yield


def admitted(verdict: object, **more: Any) -> Access:
    assert Guard(lambda: verdict, **more).admit() is None
    return current_access()


def test_page_that_no_one_decides_about_is_closed_and_says_why() -> None:
    with pytest.raises(Forbidden, match=r"pass authorize=… to admin_blueprint\(\)"):
        Guard(None).admit()


@pytest.mark.parametrize("verdict", [None, False, ""])
def test_who_is_not_let_in_may_nothing(verdict: object) -> None:
    guard = Guard(lambda: verdict)
    with pytest.raises(Forbidden):
        guard.admit()
    assert not guard.allows()
    assert current_access() == Access(view=False)
    assert current_author() is None


def test_without_a_function_no_one_is_let_in() -> None:
    assert not Guard(None).allows()


def test_response_of_the_function_is_given_instead() -> None:
    response = Response("log in", 302)
    guard = Guard(lambda: response)
    assert guard.admit() is response
    assert not guard.allows()


def test_true_and_a_name_may_everything() -> None:
    assert admitted(True) is EVERYTHING
    assert current_author() is None
    access = admitted("ann")
    assert (access.view, access.edit, access.secrets) == (True, True, True)
    assert current_author() == "ann"
    assert Guard(lambda: "ann").allows()
    for declaration in SETTINGS.values():
        assert access.may_view(declaration)
        assert access.may_edit(declaration)
    assert "any role" in access.roles
    assert (list(access.roles), len(access.roles), repr(access.roles)) == ([], 0, "everything")


def test_name_comes_from_author_if_authorize_gives_none() -> None:
    assert admitted(True, author=lambda: "bob").name == "bob"
    assert admitted(Access("ann"), author=lambda: "bob").name == "ann"
    assert admitted(Access(), author=lambda: None).name == ""
    assert admitted(Access()).name == ""


@pytest.mark.parametrize("name", ["a" * 256, "<b>", "two\nlines", "two\u2028lines"])
@pytest.mark.parametrize("kind", [str, Access])
def test_name_that_is_a_page_is_refused(name: str, kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"got {len(name)} characters"):
        Guard(lambda: kind(name)).admit()


@pytest.mark.parametrize("name", [7, b"ann", "a\0b", "\ud800"])
def test_name_that_no_history_can_have_is_refused_when_the_page_opens(name: Any) -> None:
    for guard, says in (
        (Guard(lambda: True, lambda: name), "author must return a name"),
        (Guard(lambda: Access(name)), "authorize must return a name"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            guard.admit()


@pytest.mark.parametrize("kind", [str, Access])
def test_name_may_have_255_characters(kind: Any) -> None:
    assert admitted(kind("a" * 255)).name == "a" * 255


@pytest.mark.parametrize("verdict", [1, ("no", 403), 403, b"ann", object()])
def test_what_is_neither_yes_nor_no_is_an_error(verdict: object) -> None:
    with pytest.raises(ConfigurationError, match=f"got {type(verdict).__name__}"):
        Guard(lambda: verdict).admit()


@pytest.mark.parametrize(
    ("arguments", "name"), [(("ann", None), "authorize"), ((None, "ann"), "author")]
)
def test_what_is_no_function_is_refused_by_its_name(arguments: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be a function"):
        Guard(*arguments)


@pytest.mark.parametrize(
    ("access", "seen", "changed"),
    [
        (Access(), {"OPEN", "TAX", "KEY"}, set()),
        (Access(view=False), set(), set()),
        (Access(view="Shop"), {"TAX", "KEY"}, set()),
        (Access(view=["TAX"]), {"TAX"}, set()),
        (Access(view="General"), {"OPEN"}, set()),
        (Access(view=False, edit=True), {"OPEN"}, {"OPEN"}),
        (Access(view=False, edit="Shop", secrets=True), {"KEY"}, {"KEY"}),
        (Access(view=False, edit=["Shop"], roles=["accounts"]), {"TAX"}, {"TAX"}),
    ],
)
def test_rights_are_those_of_groups_settings_roles_and_secrets(
    access: Access, seen: set[str], changed: set[str]
) -> None:
    assert {name for name, each in SETTINGS.items() if access.may_view(each)} == seen
    assert {name for name, each in SETTINGS.items() if access.may_edit(each)} == changed


def test_pinned_setting_is_seen_by_who_might_change_it_and_changed_by_no_one() -> None:
    pinned: Declaration = msgspec.structs.replace(SETTINGS["OPEN"], pinned=True)
    access = Access(view=False, edit=True)
    assert access.may_view(pinned)
    assert not access.may_edit(pinned)
    assert "you may not" not in why_locked(pinned)
    assert why_locked(SETTINGS["OPEN"]) == "you may not change this"
