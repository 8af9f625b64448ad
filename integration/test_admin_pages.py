"""Every page fits its width, and axe-core finds nothing on it, in light and in dark.

``make`` installs the file of axe-core that ``integration/axe.txt`` pins; see docs/admin.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support.find import missing, need_module

need_module("selenium")

from .support.admin_site import chromium  # noqa: E402
from .support.admin_tour import touring  # noqa: E402
from .support.browser import Browser, need_browser  # noqa: E402

pytestmark = [pytest.mark.timeout(300)]

#: every rule of axe-core, the least serious too
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  ({violations}) => done(violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)])),
  (error) => done([["axe", String(error), []]]));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core's script."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        missing("axe-core (pip install --no-deps -r integration/axe.txt)")
    return (Path(spec.origin).parent / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_browser()
    with chromium() as browser:
        yield browser


def violations(browser: Browser, axe: str) -> list[Any]:
    """Return what axe-core finds on the page that is shown."""
    if not browser.run("return 'axe' in window"):
        browser.run(axe)
    found: list[Any] = browser.driver.execute_async_script(RUN)
    return found


@pytest.mark.slow
def test_pages_fit_their_width_and_axe_finds_nothing(browser: Browser, axe: str) -> None:
    found: list[str] = []
    seen: set[str] = set()
    with touring(browser) as tour:
        for name in tour.pages():
            seen.add(name)
            for dark in (False, True):
                browser.emulate(dark=dark)
                for rule, impact, nodes in violations(browser, axe):
                    theme = "dark" if dark else "light"
                    found.append(f"{name}, {theme}: {rule} ({impact}) {nodes}")
            for width in (1280, 390, 320):
                browser.emulate(width=width)
                needed = browser.run("return document.documentElement.scrollWidth")
                if needed > width:
                    found.append(f"{name} needs {needed} of {width} pixels")
            browser.emulate()
    assert len(seen) == 14
    assert not found, "\n".join(found)


def test_axe_finds_what_is_wrong(browser: Browser, axe: str) -> None:
    browser.open("data:text/html,<title>x</title><img src=x><p style='color:%23ccc'>faint")
    assert {"image-alt", "color-contrast"} <= {rule for rule, *_ in violations(browser, axe)}
