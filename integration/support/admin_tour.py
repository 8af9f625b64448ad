"""A tour of every page of the admin page, with the 42 settings of a shop."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uwsgi_waffle.admin import Access
from uwsgi_waffle.stores.base import WorkerReport
from uwsgi_waffle.stores.sqlite.store import SqliteStore

from .admin_site import AdminSite, serving
from .browser import Browser
from .shop import SHOP

LOGO = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Crect width='8' height='8' rx='2' fill='%23c8801a'/%3E"
    "%3Cpath d='M3 0v8M5.5 0v8M0 3h8M0 5.5h8' stroke='%23fff3d6' stroke-width='.6'/%3E%3C/svg%3E"
)

#: what is typed for the review: texts, a list, fields, a switch, a duration, a secret
TYPED: dict[str, str] = {
    "f-ANNOUNCEMENT": "We bake again from Tuesday on.\nPick up your order from 9 o'clock.",
    "f-UPLOAD_LIMIT": "2500",
    "f-UPLOADS_KEPT": "14 d",
    "f-STOP_WORDS": "and\nor\nthe\na",
    "f-SMTP_PASSWORD": "better-hushed",
}
TYPE = """
for (const [id, text] of Object.entries(arguments[0])) {
  const control = document.getElementById(id);
  control.value = text;
  for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, {bubbles: true}));
}
"""
#: so that no browser asks whether to leave
FORGET = """
const form = document.querySelector("[data-settings]");
if (form) {
  form.reset();
  for (const setting of form.querySelectorAll("[data-setting] input, textarea, select")) {
    setting.dispatchEvent(new Event("input", {bubbles: true}));
  }
}
"""


class Reporting(SqliteStore):
    """A store that has reports of six workers on two hosts."""

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        revision = self.read_since(0, "").revision
        return [
            WorkerReport(
                app="site",
                host=f"web-{host}",
                pid=4200 + 100 * host + number,
                worker_id=number,
                revision=revision - (host == 2 and number == 3),
                state="INTERRUPTED" if host == 2 and number == 3 else "VALID",
                staleness_s=0.4,
                last_error="the store can't be reached" if host == 2 and number == 3 else None,
                age_s=2.0,
                lifetime_s=30.0,
            )
            for host in (1, 2)
            for number in (1, 2, 3)
        ]


class Tour:
    """Walks a browser through every page; one who may not change all sees a page of their own."""

    def __init__(self, site: AdminSite, browser: Browser) -> None:
        self.site = site
        self.browser = browser

    def pages(self) -> Iterator[str]:
        """Yield the name of each page while the browser shows it."""
        self._fill()
        for name in (
            *("settings", "search", "errors", "review", "conflict", "saved", "switch", "news"),
            *("history", "history-of-one", "undo", "refused", "workers", "locked"),
        ):
            self.forget()
            getattr(self, f"_{name.replace('-', '_')}")()
            yield name
            self.forget()

    def _fill(self) -> None:
        update = self.site.waffle.update
        update({"SITENAME": "Waffle & Co"}, author="ann@example.org", reason="The new sign")
        update(
            {"QUOTAS": {"free": 10, "team": 500, "school": 200}, "UPLOAD_LIMIT": 1500},
            author="bob@example.org",
        )
        update(
            {"MAINTENANCE": True, "SMTP_PASSWORD": "hush"},
            author="eve@example.org",
            reason="Moving the mail server; back in ten minutes",
        )
        update({"MAINTENANCE": False}, author="eve@example.org")

    def open(self, path: str = "") -> None:
        """Go to a page of the admin page."""
        self.browser.open(self.site.url + path)

    def type_in(self, texts: dict[str, str]) -> None:
        """Put texts into controls, by their ids."""
        self.browser.run(TYPE, texts)

    def choose(self, filter_: str) -> None:
        """Choose one of the filters."""
        self.type_in({"wa-only": filter_})

    def forget(self) -> None:
        """Take back what was typed, so that the browser does not ask whether to leave."""
        self.browser.run(FORGET)

    def _settings(self) -> None:
        self.open()
        self.browser.wait_for_text("Nothing edited.")
        self.type_in({"f-TAGLINE": "Crisp since 1987", "f-VAT": "7.5"})
        self.browser.wait_for_text("2 edited, not saved yet.")

    def _search(self) -> None:
        self.open("?q=mail&only=changed")
        self.browser.wait_for_text("of 42 settings")

    def _errors(self) -> None:
        self.open()
        self.type_in({"f-UPLOADS_KEPT": "soon", "f-THUMBNAILS": "120\nlarge"})
        self._review_button()
        self.browser.wait_for_text("2 values are not valid.")

    def _review(self) -> None:
        self.open()
        self.browser.one("#f-SHOP_OPEN").click()
        self.type_in(TYPED)
        self._review_button()
        self.browser.wait_for_text("Review changes")
        self.type_in({"wa-reason": "A longer holiday"})

    def _conflict(self) -> None:
        self.open()
        self.type_in({"f-UPLOAD_LIMIT": "2500", "f-SITENAME": "Waffles"})
        self._review_button()
        self.browser.wait_for_text("Review changes")
        self.site.waffle.update(
            {"UPLOAD_LIMIT": 1800, "VAT": 8}, author="bob@example.org", reason="By law"
        )
        self._save_button()
        self.browser.wait_for_text("Someone else changed these settings")

    def _saved(self) -> None:
        self.open()
        self.type_in({"f-FREE_FROM": str(50 + self.site.waffle.revision)})
        self._review_button()
        self.browser.wait_for_text("Review changes")
        self._save_button()
        self.browser.wait_for_text("Served by 6 of 7.")

    def _switch(self) -> None:
        self.open("#s-SEARCH")
        self.browser.one("#f-SEARCH").click()
        self.browser.wait_for_text("Turn off now")
        self.browser.run("document.querySelector('[data-now]').click()")
        self.browser.wait_for_text("off for everyone?")

    def _news(self) -> None:
        self.open()
        self.site.waffle.update({"DISCOUNT": 0.1}, author="bob@example.org")
        self.browser.wait_for_text("bob@example.org changed Discount")

    def _history(self) -> None:
        self.open("history")

    def _history_of_one(self) -> None:
        self.open("history?name=MAINTENANCE")

    def _undo(self) -> None:
        self.open("rollback?undo=2")

    def _refused(self) -> None:
        self.open("rollback?to=9000")

    def _workers(self) -> None:
        self.open("workers")

    def _locked(self) -> None:
        self.open("?as=editor")

    def _review_button(self) -> None:
        self.browser.run("document.querySelector('.wa-bar button').click()")

    def _save_button(self) -> None:
        self.browser.run("document.querySelector('.wa-actions .wa-primary').click()")


@contextlib.contextmanager
def touring(browser: Browser, **options: Any) -> Iterator[Tour]:
    """Serve the shop until the block ends."""
    from flask import request

    def who() -> Access | str:
        if request.args.get("as") == "editor":
            return Access("ann@example.org", edit={"Shop", "SEARCH_SINCE"})
        return "ann@example.org"

    options = {"authorize": who, "title": "Waffle House", "brand": LOGO, **options}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(SHOP, Reporting(Path(folder) / "shop.db"), **options) as site,
    ):
        yield Tour(site, browser)
