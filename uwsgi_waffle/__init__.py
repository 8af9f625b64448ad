"""Runtime-changeable settings of a Flask app, consistent over every uWSGI worker."""

from __future__ import annotations

__version__ = "0.1.0"
