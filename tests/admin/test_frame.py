"""Title, logo and templates of the admin page are the app's to choose."""

from __future__ import annotations

from collections.abc import Callable

import jinja2

from ..support.rig import Worker
from .test_views import Admin


def test_title_and_logo_stand_on_top_of_every_page(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(SECRET_KEY="k")
    blueprint = worker.waffle.admin_blueprint(
        lambda: True, title="Waffle <House>", brand="/static/logo.svg"
    )
    worker.app.register_blueprint(blueprint, url_prefix="/settings")
    for path in ("/", "/history", "/workers"):
        page = Admin(worker).open(path)
        assert "Waffle &lt;House&gt;</title>" in page.text
        images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
        assert images == ["/static/logo.svg"]


def test_template_of_the_app_takes_the_place_of_ours(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(SECRET_KEY="k")
    worker.app.jinja_loader = jinja2.DictLoader(
        {"waffle_admin/_nav.html": "<nav>Shop of {{ author }}, {{ current_revision }}</nav>"}
    )
    worker.app.register_blueprint(
        worker.waffle.admin_blueprint(lambda: "ann"), url_prefix="/settings"
    )
    page = Admin(worker).open()
    assert "<nav>Shop of ann, 0</nav>" in page.text
    assert page.form("/preview")
