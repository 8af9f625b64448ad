"""A process outside of the server that changes settings, as a command line would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask

from integration.apps.factory import SETTINGS
from uwsgi_waffle import WaffleConf


def make_outsider(folder: Path, **config: Any) -> WaffleConf:
    """Return the extension of an app in this very process, on a site's instance folder."""
    app = Flask("outsider", instance_path=str(folder))
    app.config.update(config, WAFFLE_CONFS=SETTINGS, WAFFLE_MULTIPROC=False)
    return WaffleConf(app)
