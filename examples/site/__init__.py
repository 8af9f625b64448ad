"""A small site whose banner, upload limit and maintenance switch are live settings.

Run it with ``make run``, then change a setting in the page: every worker follows at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from flask import (
    Flask,
    Response,
    abort,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from uwsgi_waffle import ChangeRefused, RevisionConflict, StoreError, WaffleConf

waffle = WaffleConf()

#: the settings that have a form of the site's own; the admin page has all
OWN_FORM = ("SITENAME", "BANNER", "BANNER_TONE", "MAX_CONTENT_LENGTH", "MAINTENANCE")
# Flask itself reads MAX_CONTENT_LENGTH at each request: a live setting needs no other code.
SETTINGS: dict[str, dict[str, Any]] = {
    "SITENAME": {
        "desc": "Name of the site, shown in the header",
        "default": "Waffle House",
        "type": Annotated[str, msgspec.Meta(min_length=1, max_length=60)],
    },
    "BANNER": {
        "desc": "Announcement on top of every page; empty for none",
        "default": "",
        "type": Annotated[str, msgspec.Meta(max_length=200)],
    },
    "BANNER_TONE": {
        "desc": "Colour of the announcement",
        "default": "info",
        "type": Literal["info", "warning"],
    },
    "MAX_CONTENT_LENGTH": {
        "desc": "Largest upload, in bytes",
        "default": 100_000,
        "min": 1_000,
        "max": 10_000_000,
    },
    "MAINTENANCE": {
        "desc": "Show the maintenance page instead of the site",
        "default": False,
    },
    "OPENS": {
        "desc": "Days on which the kitchen is open",
        "label": "Opening days",
        "default": ["Fri", "Sat", "Sun"],
        "type": list[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]],
        "group": "Kitchen",
    },
    "BAKING_TIME": {
        "desc": "How long a waffle bakes",
        "label": "Baking time",
        "default": timedelta(minutes=3, seconds=30),
        "group": "Kitchen",
    },
    "TOPPINGS": {
        "desc": "What may go on top",
        "label": "Toppings",
        "default": ["Sugar", "Cherries", "Cream"],
        "group": "Kitchen",
    },
    "PRICES": {
        "desc": "Cents for each size",
        "label": "Prices",
        "default": {"small": 250, "large": 400},
        "type": dict[str, int],
        "group": "Kitchen",
    },
    "NEWSLETTER": {
        "desc": "Send the newsletter on Mondays",
        "label": "Newsletter",
        "default": True,
        "group": "Mail",
    },
    "SENDER": {
        "desc": "Address that mails come from",
        "label": "Sender",
        "default": "hello@waffles.example",
        "group": "Mail",
    },
    "MAIL_TOKEN": {
        "desc": "Key of the mail service",
        "label": "Mail token",
        "default": "not a real one",
        "secret": True,
        "group": "Mail",
    },
}
for _name in OWN_FORM:
    SETTINGS[_name]["group"] = "Site"


def create_app() -> Flask:
    """Return the site; each uWSGI worker makes its own."""
    app = Flask(__name__)
    app.config.update(
        WAFFLE_CONFS=SETTINGS,
        # Signs no more than the messages of this example's forms; a real site keeps it secret.
        SECRET_KEY="not a secret",
    )
    # So that WAFFLE_* keys can be set from outside, as in FLASK_WAFFLE_WATCHTYPE=redis.
    app.config.from_prefixed_env()
    waffle.init_app(app)

    # Anybody may change settings here; a real site asks who it is.
    page = waffle.admin_blueprint(lambda: "visitor", title="Waffle House")
    app.register_blueprint(page, url_prefix="/admin")

    @app.before_request
    def refuse_strangers() -> None:
        # A form on another site must not change settings here.
        origin = request.origin
        if request.method == "POST" and origin and urlsplit(origin).netloc != request.host:
            abort(403)

    @app.before_request
    def maintain() -> tuple[str, int] | None:
        open_endpoints = ("settings", "change", "status", "static")
        is_open = request.endpoint in open_endpoints or request.blueprint == "waffle_admin"
        if app.config["MAINTENANCE"] and not is_open:
            return render_template("maintenance.html"), 503
        return None

    @app.context_processor
    def about_worker() -> dict[str, object]:
        return {
            "conf": waffle.conf,
            "status": waffle.status(),
            "declared": {name: SETTINGS[name] for name in OWN_FORM},
        }

    @app.get("/")
    def index() -> str:
        return render_template("index.html")

    @app.post("/upload")
    def upload() -> BaseResponse:
        file = request.files.get("file")
        if file is None or not file.filename:
            flash("Choose a file first.", "warning")
        else:
            size = len(file.read())
            flash(f"{file.filename}: {size:,} bytes arrived.", "info")
        return redirect(url_for("index"))

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> tuple[str, int]:
        limit = waffle.conf["MAX_CONTENT_LENGTH"]
        flash(f"That is more than the {limit:,} bytes allowed now.", "warning")
        return render_template("index.html"), 413

    @app.get("/settings")
    def settings() -> str:
        return render_template("settings.html", revision=waffle.revision, problems={}, typed={})

    @app.post("/settings")
    def change() -> tuple[str, int] | BaseResponse:
        # The last one counts: an unticked box leaves only the "false" that lies under it.
        texts = {name: sent[-1] for name, sent in request.form.lists() if name in OWN_FORM}
        problems: dict[str, str] = {}
        try:
            revision = int(request.form.get("revision", waffle.revision))
            values = waffle.parse(texts)
            changed = {name: value for name, value in values.items() if value != waffle.conf[name]}
            waffle.update(changed, author="example form", expected_revision=revision)
        except ChangeRefused as refused:
            problems, code = refused.problems, 422
        except RevisionConflict:
            flash("Someone else changed settings. Here are theirs; please repeat.", "warning")
            return redirect(url_for("settings"))
        except StoreError as error:
            flash(f"Not saved: {error}", "warning")
            code = 503
        else:
            said = "Saved. Every worker serves it from its next request on."
            flash(said if changed else "Nothing was changed: it is current already.", "info")
            return redirect(url_for("settings"))
        page = render_template(
            "settings.html", revision=waffle.revision, problems=problems, typed=texts
        )
        return page, code

    @app.get("/status")
    def status() -> Response:
        response = jsonify(
            at=datetime.now(timezone.utc).isoformat(),
            settings={name: waffle.conf[name] for name in OWN_FORM},
            status=waffle.status(),
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    return app
