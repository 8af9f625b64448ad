"""All pages of the admin, served by a blueprint of their own or by Flask-Admin."""

from __future__ import annotations

from .form_views import FormPages
from .history_views import HistoryPages
from .live_views import LivePages


class Pages(FormPages, HistoryPages, LivePages):
    """The view functions of every page."""
