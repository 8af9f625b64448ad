"""The mixin for a user's own key/value model."""

from __future__ import annotations

from typing import Any


class WaffleMixin:
    """Mixin of Flask-WaffleConf for a model with the columns ``key`` and ``value``.

    ``key`` is a unique string of up to 255 characters; ``value`` is one that can hold the
    longest value, as JSON.
    """

    key: Any
    value: Any

    def get_key(self) -> Any:
        """Return the setting's name."""
        return self.key

    def get_value(self) -> Any:
        """Return the raw text."""
        return self.value
