"""What uwsgi_waffle is measured beside; each peer runs in a virtual environment of its own."""

from __future__ import annotations
