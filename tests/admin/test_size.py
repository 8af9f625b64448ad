"""The form stays small with hundreds of settings."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

from ..support.many_settings import MANY
from ..support.rig import Worker
from .test_views import Admin

#: of every kind, in 36 groups
HUNDREDS: dict[str, dict[str, Any]] = {
    f"{name}_{turn}": {**spec, "group": f"Group {turn} {spec['group'] or ''}".strip()}
    for turn in range(9)
    for name, spec in MANY.items()
}


def test_page_of_400_settings_is_below_600_kb_and_80_kb_compressed(
    make_worker: Callable[..., Worker],
) -> None:
    confs = dict(list(HUNDREDS.items())[:400])
    worker = make_worker(confs=confs, SECRET_KEY="k")
    worker.app.register_blueprint(
        worker.waffle.admin_blueprint(lambda: True), url_prefix="/settings"
    )
    page = Admin(worker).open()
    assert page.text.count("data-setting=") == 400
    sent = page.text.encode()
    assert len(sent) < 600_000
    assert len(gzip.compress(sent, 6)) < 80_000
