"""The site behind a Celery worker: a task reports what it sees of the settings."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from integration.apps.factory import live_watchers, make_site

app, waffle = make_site("site")
tasks = Celery("site", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
tasks.conf.worker_prefetch_multiplier = 1


@worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def follow_settings(**_: Any) -> None:
    waffle.start()


@tasks.task(name="report")  # type: ignore[untyped-decorator]  # as above
def report() -> dict[str, Any]:
    """Return what a task of this process sees."""
    with app.app_context():
        return {
            "pid": os.getpid(),
            "revision": waffle.revision,
            "config": app.config["SITENAME"],
            "watchers": live_watchers(),
        }
