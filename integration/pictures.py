"""Take the pictures of every page: ``python -m integration.pictures docs/admin``.

Three widths, in light and in dark. A page is taken whole, up to the height that fits the docs; the
bar at the bottom stands where the picture ends.
"""

from __future__ import annotations

import base64
import logging
import sys
from pathlib import Path

from .support.admin_site import chromium
from .support.admin_tour import touring
from .support.browser import Browser

WIDTHS = (1280, 390, 320)
#: the list of all settings is taken whole, of the others what one sees without scrolling
WHOLE = ("settings", "review", "conflict", "history", "undo", "workers")
SCREEN = 900
#: of WebP: letters stay sharp, and all pictures together under 2 MB
QUALITY = 12


def take(browser: Browser, path: Path, *, width: int, dark: bool, whole: bool) -> None:
    """Write a picture of the page that is shown."""
    browser.emulate(width=width, height=SCREEN, dark=dark)
    height = SCREEN
    if whole:
        height = min(browser.run("return document.documentElement.scrollHeight"), 16_000)
        browser.emulate(width=width, height=height, dark=dark)
        browser.run("scrollTo(0, 0)")
    # Two frames: the first with the new size may be drawn from the old styles.
    browser.driver.execute_async_script(
        "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    )
    shot = browser.driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    path.write_bytes(base64.b64decode(shot["data"]))


def main(folder: Path) -> None:
    """Take every picture, in the place of those that are there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.webp"):
        old.unlink()
    with chromium() as browser, touring(browser) as tour:
        browser.live_in("Europe/Berlin")
        for name in tour.pages():
            for width in WIDTHS:
                for dark in (False, True):
                    theme = "dark" if dark else "light"
                    path = folder / f"{name}-{width}-{theme}.webp"
                    take(browser, path, width=width, dark=dark, whole=name in WHOLE)
                    if (name, width) == ("settings", WIDTHS[0]):
                        first = folder / f"first-{width}-{theme}.webp"
                        take(browser, first, width=width, dark=dark, whole=False)
            browser.emulate()
    pictures = list(folder.glob("*.webp"))
    size = sum(path.stat().st_size for path in pictures)
    print(f"{len(pictures)} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
