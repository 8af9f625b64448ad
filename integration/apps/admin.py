"""A shop whose settings are changed on the admin page, by anybody who asks."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import msgspec
from flask import Flask, request

from uwsgi_waffle import WaffleConf

SETTINGS: dict[str, dict[str, Any]] = {
    "SITENAME": {
        "desc": "Name of the shop, shown in the header of every page",
        "default": "Waffle House",
        "type": Annotated[str, msgspec.Meta(min_length=1, max_length=60)],
        "group": "Shop",
    },
    "OPEN": {"desc": "Take orders", "default": True, "group": "Shop"},
    "TONE": {
        "desc": "Colour of the announcement",
        "default": "info",
        "type": Literal["info", "warning", "alarm"],
        "group": "Shop",
    },
    "SALE_ENDS": {
        "desc": "The spring sale ends at this time",
        "default": datetime(2027, 4, 1, 22, 0, tzinfo=timezone.utc),
        "group": "Shop",
    },
    "LIMIT": {
        "desc": "Largest upload, in kilobytes",
        "default": 1000,
        "min": 1,
        "max": 50_000,
        "group": "Uploads",
    },
    "KEEP": {
        "desc": "Uploads are kept for so long",
        "default": timedelta(days=7),
        "group": "Uploads",
    },
    "QUOTAS": {
        "desc": "Megabytes for each plan",
        "default": {"free": 10, "team": 500},
        "group": "Uploads",
    },
    "MAIL_TOKEN": {
        "desc": "Key of the mail service",
        "default": "hush-hush",
        "secret": True,
        "group": "Mail",
    },
}

logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
app = Flask("waffle-house", instance_path=os.environ["SITE_INSTANCE"])
app.config.update(json.loads(os.environ.get("SITE_CONFIG", "{}")))
app.config.update(WAFFLE_CONFS=SETTINGS, SECRET_KEY="known to everybody")
waffle = WaffleConf(app)
app.register_blueprint(waffle.admin_blueprint(lambda: "ann"), url_prefix="/settings")


@app.get("/values")
def values() -> dict[str, Any]:
    """Return what this worker serves."""
    wanted = ("SITENAME", "OPEN", "LIMIT")
    return {"pid": os.getpid(), **{name: app.config[name] for name in wanted}}


@app.post("/change")
def change() -> dict[str, int]:
    """Change settings as somebody else would."""
    return {"revision": waffle.update(request.get_json(), author="bob", reason="by hand")}
