"""What the admin page does without being loaded again: one switch, notices, filters, keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from tests.support.rig import raising
from uwsgi_waffle import StoreUnavailable

from .support.find import need_module

need_module("selenium")

from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from .support.admin_site import chromium, serving  # noqa: E402
from .support.admin_tour import Tour, touring  # noqa: E402
from .support.browser import Browser, need_browser  # noqa: E402

pytestmark = [pytest.mark.timeout(240)]

VISIBLE = """
return [...document.querySelectorAll("[data-setting]")].filter((e) => !e.hidden)
  .map((e) => e.dataset.name);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_browser()
    with chromium() as browser:
        yield browser


@pytest.fixture
def tour(browser: Browser) -> Iterator[Tour]:
    browser.open("about:blank")
    with touring(browser) as tour:
        yield tour
        tour.forget()


def open_dialog(tour: Tour, name: str) -> None:
    tour.open(f"#s-{name}")
    tour.browser.run("document.getElementById(arguments[0]).click()", f"f-{name}")
    tour.browser.wait_for_text("off now")
    tour.browser.run("document.querySelector('[data-now]').click()")
    tour.browser.wait_for_text("off for everyone?")


def test_one_switch_is_set_in_place_after_a_question(tour: Tour, browser: Browser) -> None:
    open_dialog(tour, "SEARCH")
    assert tour.site.waffle.revision == 0
    browser.press("Too slow today")
    browser.run("document.querySelector('[data-yes]').click()")
    browser.wait_for_text("Saved as revision 1.")
    assert tour.site.waffle.conf["SEARCH"] is False
    entry = tour.site.store.history(limit=1)[0]
    assert (entry.author, entry.reason) == ("ann@example.org", "Too slow today")
    # It counts as unedited again, and the next change of this page is no conflict.
    browser.wait_for_text("Nothing edited.")
    open_dialog(tour, "MAIL")
    browser.run("document.querySelector('[data-yes]').click()")
    browser.wait_for_text("Saved as revision 2.")


def test_switch_is_not_set_when_the_question_is_cancelled(tour: Tour, browser: Browser) -> None:
    open_dialog(tour, "SEARCH")
    browser.run("document.querySelector('[data-no]').click()")
    browser.wait_for_text("1 edited, not saved yet.")
    assert tour.site.waffle.revision == 0


def test_switch_that_somebody_else_overtook_is_refused_in_the_dialog(
    tour: Tour, browser: Browser
) -> None:
    open_dialog(tour, "SEARCH")
    tour.site.waffle.update({"MAIL": False}, author="bob")
    browser.run("document.querySelector('[data-yes]').click()")
    browser.wait_for_text("Settings were changed since.")
    assert browser.one("[data-refusal]").get_attribute("role") == "alert"
    assert tour.site.waffle.conf["SEARCH"] is True


def test_switch_needs_a_reason_where_one_is_required(browser: Browser) -> None:
    browser.open("about:blank")
    with touring(browser, require_reason=True) as tour:
        open_dialog(tour, "SEARCH")
        browser.run("document.querySelector('[data-yes]').click()")
        browser.wait_for_text("A reason is required")
        assert tour.site.waffle.revision == 0
        browser.press("Too slow today")
        browser.run("document.querySelector('[data-yes]').click()")
        browser.wait_for_text("Saved as revision 1.")
        tour.forget()


def test_change_of_somebody_else_is_announced_to_screen_readers(
    tour: Tour, browser: Browser
) -> None:
    tour.open()
    box = browser.one("[data-toasts]")
    # The live region is there, and empty, before anything is put into it.
    assert (box.get_attribute("aria-live"), box.text) == ("polite", "")
    tour.site.waffle.update({"DISCOUNT": 0.1}, author="bob")
    browser.wait("bob's change", lambda: "bob changed Discount (revision 1)." in box.text)
    browser.run("document.querySelector('.wa-toast button').click()")
    browser.wait("dismissed", lambda: box.text == "")


def test_saving_in_one_tab_is_news_in_another(tour: Tour, browser: Browser) -> None:
    tour.open()
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    open_dialog(tour, "SEARCH")
    browser.run("document.querySelector('[data-yes]').click()")
    browser.wait_for_text("Saved as revision 1.")
    browser.driver.close()
    browser.driver.switch_to.window(first)
    browser.wait_for_text("ann@example.org changed Search (revision 1).")


def test_reach_of_a_change_is_shown_after_saving(
    tour: Tour, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    tour.open()
    tour.type_in({"f-FREE_FROM": "60"})
    browser.run("document.querySelector('.wa-bar button').click()")
    browser.wait_for_text("Review changes")
    browser.run("document.querySelector('.wa-actions .wa-primary').click()")
    browser.wait_for_text("Served by 6 of 7.")
    # A screen reader says that once, however often the page asks again, and the end.
    live = "return document.querySelector('[data-reach]').getAttribute('aria-live')"
    browser.wait("asked again", lambda: browser.run(live) == "off")
    with monkeypatch.context() as patch:
        patch.setattr(tour.site.store, "workers", raising(StoreUnavailable("down")))
        browser.wait_for_text("Served by 1 of an unknown number.")
    monkeypatch.setattr(tour.site.store, "workers", lambda max_age_s: [])
    browser.wait_for_text("Served by 1 of 1.")
    assert browser.run(live) == "polite"


def test_filters_and_search_are_kept_in_the_address(tour: Tour, browser: Browser) -> None:
    tour.site.waffle.update({"SMTP_PORT": 25, "VAT": 8})
    tour.open()
    tour.choose("changed")
    browser.wait("two", lambda: browser.run(VISIBLE) == ["VAT", "SMTP_PORT"])
    browser.one("#wa-q").send_keys("mail")
    browser.wait("one", lambda: browser.run(VISIBLE) == ["SMTP_PORT"])
    assert {"q=mail", "only=changed"} == set(
        browser.driver.current_url.partition("?")[2].split("&")
    )
    # A link to it, and a page without the script, show the same.
    browser.open(browser.driver.current_url)
    browser.wait("again", lambda: browser.run(VISIBLE) == ["SMTP_PORT"])
    assert browser.one("#wa-q").get_attribute("value") == "mail"


def test_edited_settings_and_those_with_faults_are_filtered(tour: Tour, browser: Browser) -> None:
    tour.open()
    tour.type_in({"f-TAGLINE": "Crisp", "f-UPLOAD_LIMIT": "0"})
    tour.choose("edited")
    browser.wait("two", lambda: browser.run(VISIBLE) == ["TAGLINE", "UPLOAD_LIMIT"])
    tour.choose("faults")
    browser.wait("one", lambda: browser.run(VISIBLE) == ["UPLOAD_LIMIT"])
    browser.wait_for_text("it must be at least 1, got 0")


def test_slash_goes_to_the_search_and_control_s_reviews(tour: Tour, browser: Browser) -> None:
    tour.open()
    browser.one("body").send_keys("/")
    assert browser.driver.switch_to.active_element.get_attribute("id") == "wa-q"
    # Within a field it is a letter like any other.
    browser.press("a/b")
    assert browser.one("#wa-q").get_attribute("value") == "a/b"
    browser.one("#wa-q").clear()
    tour.type_in({"f-TAGLINE": "Crisp"})
    browser.wait_for_text("1 edited, not saved yet.")
    browser.one("#wa-q").send_keys(Keys.CONTROL + "s")
    browser.wait_for_text("Review changes")
    browser.wait("the review", lambda: browser.all("#wa-reason"))


def test_locked_settings_have_no_control(tour: Tour, browser: Browser) -> None:
    tour.open("?as=editor")
    assert browser.all("#f-SITENAME[name]")
    locked = browser.one("#f-UPLOAD_LIMIT")
    assert (locked.tag_name, locked.text) == ("p", "1000")
    assert "locked" in browser.one("#s-UPLOAD_LIMIT").text
    assert browser.one("#f-SMTP_PASSWORD").text == "a secret, not shown"


DATES = {
    "SITENAME": {"desc": "d", "default": "Shop", "group": "Site"},
    "WHEN": {"desc": "d", "default": date(2026, 1, 31), "group": "Times"},
    "TOKEN": {"desc": "d", "default": "hush", "secret": True, "group": "Site"},
}


COUNT_SENT = """
window.sent = [];
document.addEventListener("submit", (event) => {
  window.sent.push(!event.defaultPrevented);
  event.preventDefault();
});
"""


def test_double_click_sends_a_form_once(browser: Browser) -> None:
    with serving(DATES) as site:
        browser.open(site.url)
        browser.one("#f-SITENAME").send_keys("x")
        browser.one(".wa-bar button").click()
        browser.wait_for_text("compared with revision")
        browser.run(COUNT_SENT)
        button = browser.one("main button.wa-primary")
        ActionChains(browser.driver).double_click(button).perform()
        assert browser.run("return window.sent") == [True, False]


def test_date_that_is_not_complete_is_shown_wherever_it_is(browser: Browser) -> None:
    with serving(DATES) as site:
        browser.open(site.url)
        browser.one("#f-WHEN").send_keys(Keys.BACKSPACE)
        assert browser.run("return document.querySelector('#f-WHEN').validity.badInput")
        browser.run("document.querySelector('#f-WHEN').closest('details').open = false")
        browser.one("#f-SITENAME").send_keys("x")
        browser.one(".wa-bar button").click()
        browser.wait_for_text("it is not complete")
        assert browser.run("return document.activeElement.id") == "f-WHEN"
