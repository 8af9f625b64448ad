"""What uWSGI loads."""

from __future__ import annotations

from .app import make_app

app = make_app()
