"""Time the form with 400 settings, by the browser's clock: ``python -m integration.page_speed``.

A figure of the machine that it runs on, and no test.
"""

from __future__ import annotations

import gzip
import logging
import statistics
import urllib.request

from tests.admin.test_size import HUNDREDS

from .support.admin_site import chromium, serving

ROUNDS = 7
PAINT = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
#: from the key to the frame that shows what it found
KEY = """
const done = arguments[arguments.length - 1];
const search = document.getElementById("wa-q");
search.value = arguments[0];
const began = performance.now();
search.dispatchEvent(new Event("input", {bubbles: true}));
document.body.getBoundingClientRect();
const filtered = performance.now() - began;
requestAnimationFrame(() => setTimeout(() => done([filtered, performance.now() - began])));
"""


def main() -> None:
    """Print first paint, and what a key in the search takes."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    confs = dict(list(HUNDREDS.items())[:400])
    paints: list[float] = []
    keys: list[list[float]] = []
    with serving(confs) as site, chromium() as browser:
        with urllib.request.urlopen(site.url) as answer:
            page = answer.read()
        for _ in range(ROUNDS):
            browser.open("about:blank")
            browser.open(site.url)
            browser.wait("a paint", lambda: browser.run(PAINT) is not None)
            paints.append(browser.run(PAINT))
            for text in ("t", "to", "tok", "token_2"):
                keys.append(browser.driver.execute_async_script(KEY, text))
    print(
        f"400 settings: {len(page) / 1000:.0f} kB, {len(gzip.compress(page)) / 1000:.0f} kB by gzip"
    )
    print(f"first paint: {statistics.median(paints):.0f} ms, at most {max(paints):.0f}")
    filtered = [key[0] for key in keys]
    shown = [key[1] for key in keys]
    print(f"a key: filtered in {statistics.median(filtered):.0f} ms, at most {max(filtered):.0f}")
    print(f"a key: shown in {statistics.median(shown):.0f} ms, at most {max(shown):.0f}")


if __name__ == "__main__":
    main()
