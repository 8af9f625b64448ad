"""A process outside of the server that changes settings, as a command line would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

from integration.apps.factory import SETTINGS
from uwsgi_waffle import WaffleConf


class Outsider(NamedTuple):
    """An app in this very process; the extension alone would not keep it alive."""

    app: Flask
    waffle: WaffleConf

    def update(self, **values: Any) -> int:
        """Change settings; return the new revision."""
        return self.waffle.update(values, author="outsider")


def make_outsider(folder: Path, **config: Any) -> Outsider:
    """Return an app in this very process, on a site's instance folder."""
    app = Flask("outsider", instance_path=str(folder))
    app.config.update(config, WAFFLE_CONFS=SETTINGS, WAFFLE_MULTIPROC=False)
    return Outsider(app, WaffleConf(app))
