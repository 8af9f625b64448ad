"""The admin page in a real Chromium, served by a real uWSGI."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartUwsgi
from .support.find import need_module
from .support.uwsgi_server import APPS, UwsgiServer

need_module("selenium")

from selenium.webdriver.common.keys import Keys  # noqa: E402

from .support.browser import Browser, need_browser  # noqa: E402

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(120)]

OpenBrowser = Callable[..., Browser]
WORKERS = 3
BUTTON = ".wa-bar button"


@pytest.fixture
def site(start_uwsgi: StartUwsgi) -> UwsgiServer:
    need_browser()
    return start_uwsgi(
        "--master",
        "--lazy-apps",
        "--manage-script-name",
        f"--mount=/shop={APPS / 'admin.py'}",
        "--callable=app",
        # A browser opens connections in advance, each of which would keep a whole worker busy.
        "--threads=8",
        workers=WORKERS,
        config={"WAFFLE_REPORT_INTERVAL": 1},
    )


@pytest.fixture
def open_browser() -> Iterator[OpenBrowser]:
    """Return a function that opens a browser; all are ended at the end."""
    with contextlib.ExitStack() as stack:

        def open_(**options: Any) -> Browser:
            profile = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="waffle-chromium-", ignore_cleanup_errors=True)
            )
            browser = Browser(Path(profile), **options)
            stack.callback(browser.quit)
            return browser

        yield open_


@pytest.fixture
def browser(open_browser: OpenBrowser) -> Browser:
    return open_browser()


def url(site: UwsgiServer, path: str = "/", worker: int = 1) -> str:
    return f"http://127.0.0.1:{site.ports[worker - 1]}/shop/settings{path}"


def served(site: UwsgiServer) -> list[dict[str, Any]]:
    """Return what every worker serves, each asked by its own port."""
    reports = site.reports("/shop/values")
    assert len({report.pop("pid") for report in reports}) == WORKERS
    return reports


def settings(browser: Browser) -> list[str]:
    """Return the names of the settings that are to be seen."""
    return [label.text for label in browser.all(".wa-name label") if label.is_displayed()]


def test_settings_are_changed_with_the_keyboard_alone(site: UwsgiServer, browser: Browser) -> None:
    browser.open(url(site))
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.tab_to("#f-OPEN")
    browser.press(Keys.SPACE)
    browser.tab_to("#f-LIMIT")
    browser.press(Keys.CONTROL + "a")
    browser.press("2500")
    browser.wait_for_text("2 edited, not saved yet.")
    browser.tab_to(BUTTON)
    browser.press(Keys.ENTER)
    browser.wait_for_text("Review changes")
    assert {report["LIMIT"] for report in served(site)} == {1000}
    assert len(browser.all("tbody tr")) == 2
    browser.tab_to("#wa-reason")
    browser.press("Spring sale")
    browser.tab_to(".wa-primary")
    browser.press(Keys.ENTER)
    browser.wait_for_text("Saved as revision 1.")
    expected = {"SITENAME": "Waffle House", "OPEN": False, "LIMIT": 2500}
    assert served(site) == [expected] * WORKERS
    browser.open(url(site, "/history", worker=2))
    browser.wait_for_text("“Spring sale”")
    assert browser.complaints() == []


def test_same_works_without_javascript(site: UwsgiServer, open_browser: OpenBrowser) -> None:
    browser = open_browser(script=False)
    browser.open(url(site))
    assert "Nothing is saved before you have reviewed it." in browser.text
    assert browser.one(".wa-search button").is_displayed()
    browser.one("#f-OPEN").click()
    browser.one("#f-LIMIT").clear()
    browser.one("#f-LIMIT").send_keys("0")
    browser.one(BUTTON).click()
    browser.wait_for_text("One value is not valid")
    assert browser.driver.switch_to.active_element.get_attribute("role") == "alert"
    browser.one("#f-LIMIT").clear()
    browser.one("#f-LIMIT").send_keys("2500")
    browser.one(BUTTON).click()
    browser.wait_for_text("Review changes")
    browser.one(".wa-primary").click()
    browser.wait_for_text("Saved as revision 1.")
    expected = {"SITENAME": "Waffle House", "OPEN": False, "LIMIT": 2500}
    assert served(site) == [expected] * WORKERS
    browser.one("#wa-q").send_keys("upload", Keys.ENTER)
    browser.wait_for_text("3 of 8 settings")
    assert settings(browser) == ["LIMIT", "KEEP", "QUOTAS"]


def test_search_filters_while_one_types_and_says_how_many(
    site: UwsgiServer, browser: Browser
) -> None:
    browser.open(url(site))
    assert len(settings(browser)) == 8
    browser.one("#f-SITENAME").send_keys(" typed")
    browser.one("#wa-q").send_keys("mega")
    browser.wait_for_text("1 of 8 settings")
    assert browser.one("[data-count]").get_attribute("role") == "status"
    assert settings(browser) == ["QUOTAS"]
    assert [group.text for group in browser.all(".wa-group > summary") if group.is_displayed()] == [
        "Uploads"
    ]
    browser.one("#wa-q").send_keys("x")
    browser.wait_for_text("No setting matches.")
    # Enter must not leave the page, and what was typed elsewhere with it.
    browser.one("#wa-q").send_keys(Keys.ENTER)
    browser.one("#wa-q").send_keys(Keys.CONTROL + "a", Keys.DELETE)
    browser.wait("all settings again", lambda: len(settings(browser)) == 8)
    assert browser.one("#f-SITENAME").get_attribute("value") == "Waffle House typed"


def test_errors_are_announced_at_the_field(site: UwsgiServer, browser: Browser) -> None:
    browser.open(url(site))
    quotas = browser.one("#f-QUOTAS")
    quotas.clear()
    quotas.send_keys('{"free": ', Keys.TAB)
    browser.wait_for_text("it is not JSON")
    assert quotas.get_attribute("aria-invalid") == "true"
    assert "e-QUOTAS" in (quotas.get_attribute("aria-describedby") or "").split()
    browser.one("#f-LIMIT").clear()
    browser.one("#f-LIMIT").send_keys("0")
    browser.one(BUTTON).click()
    browser.wait_for_text("2 values are not valid. Nothing was saved")
    browser.wait(
        "the focus is at the summary",
        lambda: browser.driver.switch_to.active_element.get_attribute("role") == "alert",
    )
    browser.one('a[href="#f-LIMIT"]').click()
    limit = browser.one("#f-LIMIT")
    browser.wait(
        "the focus is at the field", lambda: browser.driver.switch_to.active_element == limit
    )
    assert limit.get_attribute("value") == "0"
    assert browser.one("#e-LIMIT").text.endswith("it must be at least 1, got 0")
    # A correction is not called wrong any more as soon as the field is left.
    limit.send_keys(Keys.CONTROL + "a")
    limit.send_keys("5", Keys.TAB)
    browser.wait("corrected", lambda: not limit.get_attribute("aria-invalid"))
    assert browser.one("#f-QUOTAS").get_attribute("value") == '{"free": '


def test_conflict_with_another_worker_is_shown_side_by_side(
    site: UwsgiServer, browser: Browser
) -> None:
    browser.open(url(site))
    limit = browser.one("#f-LIMIT")
    limit.clear()
    limit.send_keys("2500")
    browser.one(BUTTON).click()
    browser.wait_for_text("Review changes")
    site.post(3, {"LIMIT": 7}, "/shop/change")
    browser.one(".wa-primary").click()
    browser.wait_for_text("Someone else changed these settings")
    assert "by bob" in browser.text
    assert [cell.text for cell in browser.all("tbody td")] == ["7", "2500"]
    assert {report["LIMIT"] for report in served(site)} == {7}
    browser.one("input[name=k-LIMIT]").click()
    browser.one(".wa-primary").click()
    browser.wait_for_text("Saved as revision 2.")
    assert {report["LIMIT"] for report in served(site)} == {2500}


def test_secret_is_changed_and_never_shown(site: UwsgiServer, browser: Browser) -> None:
    browser.open(url(site))
    browser.one("#f-MAIL_TOKEN").send_keys("quite-new")
    browser.one(BUTTON).click()
    browser.wait_for_text("Review changes")
    assert "quite-new" not in browser.driver.page_source
    browser.one("#f-MAIL_TOKEN").send_keys("quite-new")
    browser.one(".wa-primary").click()
    browser.wait_for_text("Saved as revision 1.")
    assert "quite-new" not in browser.driver.page_source


def test_workers_are_listed_and_followed(site: UwsgiServer, browser: Browser) -> None:
    browser.open(url(site, "/workers"))
    browser.wait_for_text(f"{WORKERS} processes, all at revision 0")
    for number in range(1, WORKERS + 1):
        assert f"worker {number}" in browser.text
    site.post(2, {"LIMIT": 7}, "/shop/change")
    browser.wait_for_text(f"{WORKERS} processes, all at revision 1")
    assert browser.complaints() == []


def test_what_has_the_focus_is_never_under_the_bar(site: UwsgiServer, browser: Browser) -> None:
    browser.emulate(width=360, height=640)
    browser.open(url(site))
    browser.run("document.getElementById('f-OPEN').click()")
    browser.one("h1").click()
    seen = 0
    while seen == 0 or browser.driver.switch_to.active_element != browser.one(BUTTON):
        browser.press(Keys.TAB)
        assert browser.run(COVERED) == ""
        seen += 1
        assert seen < 120, "the button can't be reached"
    assert seen > 20


#: what has the focus and lies under the bar, though it is small enough not to
COVERED = """
const bar = document.querySelector(".wa-bar"), now = document.activeElement;
const box = now.getBoundingClientRect();
const covered = !bar.contains(now) && box.bottom > bar.getBoundingClientRect().top;
return covered && box.height < 300 ? now.outerHTML : "";
"""


PATHS = ("/", "/?q=upload", "/history", "/workers", "/rollback?to=0")


def test_pages_fit_every_width_and_targets_are_large(site: UwsgiServer, browser: Browser) -> None:
    long = "a" * 60
    site.post(1, {"SITENAME": long, "QUOTAS": {long: 1}}, "/shop/change")
    for path in PATHS:
        browser.open(url(site, path))
        for width in (320, 360, 700, 1100):
            browser.emulate(width=width, height=800)
            assert browser.run("return document.documentElement.scrollWidth") <= width, path
            assert browser.run(SMALL_TARGETS) == [], path


def test_everything_can_be_read_in_light_and_dark(site: UwsgiServer, browser: Browser) -> None:
    site.post(1, {"LIMIT": 7}, "/shop/change")
    browser.open(url(site))
    browser.one("#f-LIMIT").clear()
    browser.one("#f-LIMIT").send_keys("0")
    browser.one(BUTTON).click()
    browser.wait_for_text("One value is not valid")
    for path in ("", *PATHS):
        if path:
            browser.open(url(site, path))
        for dark in (False, True):
            browser.emulate(dark=dark)
            paper = browser.run("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, paper[4:-1].split(","))) < 384) is dark
            assert browser.run(FAINT_TEXTS) == [], path
    # The measure itself finds something where there is something.
    browser.run("document.querySelector('h1').style.color = '#555'")
    assert len(browser.run(FAINT_TEXTS)) == 1


#: what is harder to hit than WCAG asks for; a box may be hit by its label too
SMALL_TARGETS = """
return [...document.querySelectorAll("button, input, select, textarea, nav a")]
  .filter((e) => e.type !== "hidden" && e.checkVisibility())
  .map((e) => [(e.closest("label") || e).getBoundingClientRect(), e.name || e.textContent])
  .filter(([box]) => box.height < 24 || box.width < 24);
"""

#: texts whose contrast with what lies under them is less than WCAG's AA asks for
FAINT_TEXTS = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const under = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = parse(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility())
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(under(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className, e.textContent.trim()];
  })
  .filter(([ratio]) => ratio < 4.5);
"""
