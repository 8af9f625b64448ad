"""A second app on the same settings, to be mounted beside the first."""

from __future__ import annotations

from integration.apps.factory import make_site

app = make_site("other").app
