"""Random ways through the admin page in a real Chromium: nothing typed is lost without a word.

A failure names the number of its walk; ``WAFFLE_WALK=17`` runs that one again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.admin.test_walks import Store
from tests.support.many_settings import BAD, MANY, SECRETS, Typed, typed_for
from uwsgi_waffle import StoreUnavailable

from .support.find import need_module

need_module("selenium")

from .support.admin_site import AdminSite, chromium, serving  # noqa: E402
from .support.browser import Browser, need_browser  # noqa: E402

pytestmark = [pytest.mark.timeout(300)]

WALKS = [int(os.environ["WAFFLE_WALK"])] if "WAFFLE_WALK" in os.environ else range(32)
#: each of these walks is made without JavaScript
PLAIN_EVERY = 4
STEPS = 6

#: types into the fields of one setting as a person would
TYPE = """
const [name, fields] = arguments;
const all = (prefix) => [...document.querySelectorAll(`[name="${prefix}-${name}"]`)];
const fire = (e) => ["input", "change"].forEach(
  (kind) => e.dispatchEvent(new Event(kind, { bubbles: true })));
if ("vb" in fields && !("v" in fields)) fields.v = [];
const group = document.getElementById(`s-${name}`).closest("details");
if (group) group.open = true;
for (const [prefix, texts] of Object.entries(fields)) {
  const found = all(prefix).filter((e) => e.type !== "hidden");
  if (prefix === "n") continue;
  if (found.length && found[0].type === "checkbox") {
    for (const e of found) {
      const on = texts.includes(e.value);
      if (e.checked !== on) { e.checked = on; fire(e); }
    }
    continue;
  }
  found.forEach((e, i) => {
    const text = texts[i] ?? "";
    if (e.value.replace(/\\r?\\n/g, "\\r\\n") !== text) { e.value = text; fire(e); }
  });
}
for (const e of all("n")) {
  const on = "n" in fields;
  if (e.checked !== on) { e.checked = on; fire(e); }
}
for (const e of all("r")) { if (e.checked) { e.checked = false; fire(e); } }
"""
#: the fields that each setting has now
FIELDS = """
const found = {};
for (const setting of document.querySelectorAll("[data-setting]")) {
  const name = setting.dataset.name;
  const fields = [...setting.querySelectorAll(`[name$="-${name}"]`)];
  found[name] = fields.map((field) => field.name.split("-")[0]);
}
return found;
"""
SENT = """
const form = document.querySelector(arguments[0] || "form[method=post]");
if (!form) return null;
const sent = {};
for (const [key, value] of new FormData(form)) {
  (sent[key] ||= []).push(value.replace(/\\r?\\n/g, "\\r\\n"));
}
return sent;
"""


@pytest.fixture(scope="module")
def site() -> Iterator[AdminSite]:
    need_browser()
    with serving(MANY, Store()) as site:
        yield site


@pytest.fixture(scope="module")
def browsers() -> Iterator[dict[bool, Browser]]:
    """A browser with JavaScript, and one without."""
    need_browser()
    with chromium() as with_, chromium(script=False) as without:
        yield {True: with_, False: without}


class Walker:
    """A visitor who remembers what was typed, and looks for it on every page."""

    def __init__(self, site: AdminSite, browser: Browser, seed: int) -> None:
        assert isinstance(site.store, Store)
        self.site = site
        self.store = site.store
        self.browser = browser
        self.dice = random.Random(seed)
        self.typed: dict[str, Typed] = {}
        self.steps: list[str] = []
        site.waffle.reset(list(MANY))
        browser.open("about:blank")
        browser.open(site.url)

    @property
    def is_form(self) -> bool:
        return bool(self.browser.all("[data-settings]"))

    def walk(self) -> None:
        for _ in range(STEPS):
            actions = (
                [
                    *(self.type, self.correct, self.review, self.correct_and_review),
                    *(self.expire, self.end_session, self.others),
                ]
                if self.is_form
                else [
                    *(self.edit, self.go_back, self.save, self.break_store, self.lose),
                    self.others_and_save,
                ]
            )
            self._do(self.dice.choice(actions))
        if not self.is_form:
            self._do(self.edit)
        for _ in range(4):
            if self.is_form and not self.typed:
                return
            self._do(self.correct_and_review if self.is_form else self.save)
        assert not self.typed, "it can't be saved"

    def _do(self, action: Any) -> None:
        self.steps.append(action.__name__)
        action()
        self._look()

    def type(self) -> None:
        found = self.browser.run(FIELDS)
        for name in self.dice.sample(sorted(MANY), self.dice.randint(1, 8)):
            fits = [t for t in typed_for(name) if set(t.fields) <= set(found[name])]
            if fits:
                self.typed[name] = self.dice.choice(fits)
                self._put_in(name)

    def correct(self) -> None:
        for name, typed in self.typed.items():
            if typed.value is BAD:
                self.typed[name] = next(t for t in typed_for(name) if t.value is not BAD)
                self._put_in(name)
        # A secret is never sent back: the page says so, and it is typed again.
        for name in set(self.typed).intersection(SECRETS):
            self._put_in(name)

    def _put_in(self, name: str) -> None:
        fields = self.typed[name].fields
        while self.browser.run(FIELDS)[name].count("vk") < len(fields.get("vk", ())):
            # Without JavaScript it sends the form, and a new page comes.
            self._press(f"#s-{name} [data-add-row]", stays=self.browser.script)
        self.browser.run(TYPE, name, fields)

    def correct_and_review(self) -> None:
        self.correct()
        self.review()

    def review(self) -> None:
        self._press(".wa-bar button")

    def expire(self) -> None:
        self.site.app.config["WTF_CSRF_TIME_LIMIT"] = -1
        self.review()
        self.site.app.config["WTF_CSRF_TIME_LIMIT"] = 3600

    def end_session(self) -> None:
        """Somebody logs out elsewhere and in again: the session is another one."""
        self.browser.driver.delete_all_cookies()
        self.review()

    def others(self) -> None:
        """Somebody in another tab changes one setting."""
        name = self.dice.choice([name for name in MANY if name not in SECRETS])
        values = [typed.value for typed in typed_for(name) if typed.value is not BAD]
        self.site.waffle.update({name: self.dice.choice(values)}, author="bob")

    def others_and_save(self) -> None:
        self.others()
        self.save()

    def edit(self) -> None:
        if not self.is_form:
            self._press("button[formaction$=edit]")

    def go_back(self) -> None:
        self.browser.driver.back()
        self.browser.wait("a page of ours", lambda: bool(self.browser.all(".wa")))
        if not self.is_form:
            self.edit()

    def save(self) -> None:
        for name in set(self.typed).intersection(SECRETS):
            fields = self.browser.all(f'[name="v-{name}"]')
            if fields:
                fields[0].clear()
                fields[0].send_keys(self.typed[name].fields["v"][0])
        for box in self.browser.all("input[name^='k-']"):
            if not box.is_selected():
                box.click()
        self._press(".wa-actions .wa-primary")

    def break_store(self) -> None:
        self.store.errors["write"] = StoreUnavailable("no luck")
        self.save()
        self.store.errors.clear()

    def lose(self) -> None:
        self.store.loses_answer = True
        self.save()
        self.store.loses_answer = False

    # --- what the pages must hold ------------------------------------------------------------

    def _look(self) -> None:
        text = self.browser.run("return document.body.innerText")
        if "Saved as revision" in text or "is current already" in text:
            for name, typed in self.typed.items():
                assert self._is_current(name, typed), f"{name} is not saved"
            self.typed.clear()
            self.browser.open(self.site.url)
            return
        if self.steps[-1] == "others":
            return
        sent = self.browser.run(SENT, "[data-settings]" if self.is_form else None)
        for name, typed in self.typed.items():
            if name in SECRETS:
                known = f"p-{name}" in sent or sent.get(f"v-{name}") == typed.fields["v"]
                # The browser itself keeps no password for its back button.
                assert known or self.steps[-1] == "go_back", f"{name} is forgotten"
            elif typed.value is not BAD and self._is_current(name, typed):
                continue
            elif not self.is_form:
                assert typed.value is not BAD, f"{name} is let through"
                assert f"v-{name}" in sent, f"{name} is forgotten"
            else:
                for prefix, texts in typed.fields.items():
                    shown = sent.get(f"{prefix}-{name}", [])
                    shown = shown[: len(texts)] if prefix in ("vk", "vv") else shown
                    assert shown == texts, f"{prefix}-{name} is another: {shown}"

    def _is_current(self, name: str, typed: Typed) -> bool:
        now = self.site.waffle.conf[name]
        return bool(msgspec.to_builtins(now) == msgspec.to_builtins(typed.value))

    def _press(self, selector: str, *, stays: bool = False) -> None:
        button = self.browser.one(selector)
        if stays:
            self.browser.run("arguments[0].click()", button)
            return
        if not button.is_enabled():
            assert not self.typed, "the button sleeps though something was typed"
            return
        old = self.browser.one("html")
        self.browser.run("arguments[0].click()", button)
        self.browser.wait("the next page", lambda: self._is_gone(old))

    def _is_gone(self, old: Any) -> bool:
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            old.is_enabled()
        except StaleElementReferenceException:
            return bool(self.browser.all(".wa main"))
        return bool(self.browser.all(".wa-is-wrong :focus"))


@pytest.mark.parametrize("seed", WALKS)
def test_nothing_typed_is_lost_without_a_word(
    site: AdminSite, browsers: dict[bool, Browser], seed: int
) -> None:
    script = seed % PLAIN_EVERY != 0
    walker = Walker(site, browsers[script], seed)
    try:
        walker.walk()
    except AssertionError as exc:
        typed = {name: typed.fields for name, typed in walker.typed.items()}
        where = "with" if script else "without"
        raise AssertionError(
            f"walk {seed}, {where} JavaScript: {walker.steps}\n{typed}\n{exc}"
        ) from exc


def test_added_rows_come_back_with_the_back_button(
    site: AdminSite, browsers: dict[bool, Browser]
) -> None:
    walker = Walker(site, browsers[True], 0)
    long = next(t for t in typed_for("QUOTAS") if len(t.fields.get("vk", ())) > 5)
    for name in ("QUOTAS", "QUOTAS_2"):
        walker.typed[name] = long
        walker._put_in(name)
    walker._do(walker.review)
    walker._do(walker.go_back)
    assert walker.is_form
    walker._do(walker.review)
    walker._do(walker.save)
    assert site.waffle.conf["QUOTAS_2"] == long.value
