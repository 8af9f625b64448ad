"""The plugin of pytest: the fixture ``waffle_override``.

A package of its own, because pytest imports it at each of its starts, in each project of the
environment: ``uwsgi_waffle`` and Flask are imported when a test asks for the fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from uwsgi_waffle.testing.fixture import Override


@pytest.fixture
def waffle_override() -> Iterator[Override]:
    """Give ``waffle_override(app, SITENAME="x")``; everything is restored after the test."""
    from uwsgi_waffle.testing.fixture import Override

    with contextlib.ExitStack() as stack:
        yield Override(stack)
