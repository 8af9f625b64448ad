"""An app with the admin page, served by threads of the test's own process."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from tests.support.rig import MemoryStore
from uwsgi_waffle import WaffleConf
from uwsgi_waffle.stores import Store

from .browser import Browser


class AdminSite:
    """An app with any settings, on a port of its own.

    :param folder: the app's instance folder.
    :param pages: what ``admin_blueprint`` gets.
    """

    def __init__(
        self,
        folder: Path,
        confs: Mapping[str, Any],
        store: Store,
        authorize: Callable[[], object] = lambda: "ann",
        **pages: Any,
    ) -> None:
        self.app = app = Flask("site", instance_path=str(folder))
        self.store = store
        app.config.update(WAFFLE_CONFS=confs, SECRET_KEY="k")
        self.waffle = WaffleConf(app, store)
        blueprint = self.waffle.admin_blueprint(authorize, **pages)
        app.register_blueprint(blueprint, url_prefix="/s")
        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}/s/"


@contextlib.contextmanager
def serving(
    confs: Mapping[str, Any], store: Store | None = None, **options: Any
) -> Iterator[AdminSite]:
    """Serve an app until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        site = AdminSite(Path(folder), confs, store or MemoryStore(), **options)
        thread = threading.Thread(target=site.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield site
        finally:
            site.server.shutdown()
            site.server.server_close()
            thread.join()


@contextlib.contextmanager
def chromium(**options: Any) -> Iterator[Browser]:
    """Run a browser with a profile of its own until the block ends."""
    with tempfile.TemporaryDirectory(
        prefix="waffle-chromium-", ignore_cleanup_errors=True
    ) as profile:
        browser = Browser(Path(profile), **options)
        try:
            yield browser
        finally:
            browser.quit()
