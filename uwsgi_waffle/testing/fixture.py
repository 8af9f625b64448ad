"""The pytest fixture ``waffle_override``; import it from :mod:`uwsgi_waffle.testing`."""

from __future__ import annotations

import contextlib
from typing import Any

from flask import Flask, current_app

from pytest_uwsgi_waffle import waffle_override as waffle_override

from ..app_state import state_of


class Override:
    """Serves other values in this process until the test ends."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def __call__(self, app: Flask | None = None, /, **values: Any) -> None:
        """Override settings of an app, or of the current one if it is left out.

        :raises UnknownSettingError: a name is not declared.
        :raises InvalidValueError: a value does not fit.
        """
        state = state_of(app or current_app)
        self._stack.enter_context(state.override(values))
