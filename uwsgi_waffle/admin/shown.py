"""Values as a person may see them."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from ..masking import MASK
from ..settings.declarations import Declaration
from .texts import in_full
from .widgets import make_widget


class Shown(NamedTuple):
    """A value as a person may see it.

    :ivar is_default: nothing is stored.
    """

    text: str
    is_default: bool = False
    secret: bool = False


def show(declaration: Declaration | None, raw: str | None) -> Shown:
    """Return a raw text as a person may see it; what is no longer declared may be a secret."""
    if declaration is None:
        return Shown("" if raw is None else MASK, raw is None, raw is not None)
    if declaration.secret:
        return Shown(MASK, raw is None, True)
    text = declaration.default_raw if raw is None else raw
    with contextlib.suppress(ValueError):
        value = declaration.decode(text)
        text = in_full(make_widget(declaration, value), value)
    return Shown(text, raw is None)
