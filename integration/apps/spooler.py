"""What uWSGI's spooler loads: a site of its own, whose watcher it starts itself."""

from __future__ import annotations

import json
from pathlib import Path

import uwsgi

from integration.apps.factory import make_report, make_site

app, waffle = make_site("spooler")
waffle.start()


def do_job(arguments: dict[bytes, bytes]) -> int:
    """Do nothing; uWSGI runs a spooler only for a function."""
    return int(uwsgi.SPOOL_OK)


uwsgi.spooler = do_job

told = Path(app.instance_path, "spooler.json")
told.with_suffix(".new").write_text(json.dumps(make_report(app, waffle)))
told.with_suffix(".new").rename(told)
