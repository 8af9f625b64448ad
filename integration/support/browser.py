"""A real Chromium without a window, that downloads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from .find import missing
from .processes import free_port
from .waiting import eventually

T = TypeVar("T")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--hide-scrollbars",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium")
_DRIVERS = ("chromedriver", "/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver")
_MAX_TABS = 120


def need_browser() -> tuple[str, str]:
    """Return the paths of Chromium and its driver, or skip in one clear word."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = next(filter(None, map(shutil.which, _DRIVERS)), None)
    if browser is None:
        missing("Chromium (Debian: chromium)")
    if driver is None:
        missing("chromedriver (Debian: chromium-driver)")
    return browser, driver


class Browser:
    """A browser with a profile of its own.

    :param profile: an empty folder.
    :ivar script: whether it runs JavaScript.
    """

    def __init__(self, profile: Path, *, script: bool = True) -> None:
        browser, driver = need_browser()
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not script:
            setting = {"profile.managed_default_content_settings.javascript": 2}
            options.add_experimental_option("prefs", setting)
        # With both paths given, selenium asks nobody; this makes sure of it.
        environment = {**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
        self.script = script
        self.driver = webdriver.Chrome(options, Service(driver, port=free_port(), env=environment))
        self.emulate()

    def emulate(self, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Show pages as a device of some size would, in light or dark colours."""
        self._cdp(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self._cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def live_in(self, zone: str) -> None:
        """Show times as a device in some time zone would."""
        self._cdp("Emulation.setTimezoneOverride", timezoneId=zone)

    def quit(self) -> None:
        """End the browser and its driver."""
        self.driver.quit()

    def open(self, url: str) -> None:
        """Go to a page."""
        self.driver.get(url)

    def one(self, selector: str) -> WebElement:
        """Return the first element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return every element that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self.one("body").text

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, selector: str) -> WebElement:
        """Move the focus forward by the Tab key until it is at an element."""
        wanted = self.one(selector)
        for _ in range(_MAX_TABS):
            self.press(Keys.TAB)
            if self.driver.switch_to.active_element == wanted:
                return wanted
        raise AssertionError(f"{selector} can't be reached by the Tab key")

    def wait(self, what: str, probe: Callable[[], T]) -> T:
        """Wait until a probe is true; an element that is gone means "not yet"."""

        def patient() -> T | None:
            try:
                return probe()
            except WebDriverException:
                return None

        answer = eventually(
            what, patient, evidence=lambda: f"{self.driver.current_url}\n{self.text}"
        )
        assert answer is not None
        return answer

    def wait_for_text(self, text: str) -> None:
        """Wait until the page says something."""
        self.wait(f"the page says {text!r}", lambda: text in self.text)

    def complaints(self) -> list[str]:
        """Return what the console complains about, apart from answers that are no 200."""
        logs = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [
            entry["message"]
            for entry in logs
            if entry["level"] in ("WARNING", "SEVERE") and "Failed to load" not in entry["message"]
        ]

    def _cdp(self, command: str, **parameters: Any) -> None:
        self.driver.execute_cdp_cmd(command, parameters)
