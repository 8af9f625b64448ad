"""A mule of uWSGI with a site of its own; ``MULE_START`` lets it start its watcher."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from integration.apps.factory import make_report, make_site

app, waffle = make_site("mule")
if os.environ.get("MULE_START"):
    waffle.start()

told = Path(app.instance_path, "mule.json")
told.with_suffix(".new").write_text(json.dumps(make_report(app, waffle)))
told.with_suffix(".new").rename(told)

while True:
    time.sleep(60)
