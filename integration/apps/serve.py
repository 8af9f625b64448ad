"""The site, to be served."""

from __future__ import annotations

from integration.apps.factory import make_site

app = make_site("site").app
