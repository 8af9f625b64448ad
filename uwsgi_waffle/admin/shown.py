"""Values as a person may see them."""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple

from ..masking import MASK, visible
from ..settings.declarations import Declaration
from .texts import in_full
from .widgets import make_widget

#: what shows a text otherwise than it is; marks that scripts and emoji need are none of them
_STEERS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


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
    return Shown(legible(text), raw is None)


def legible(text: str) -> str:
    """Return a text in which what would turn or hide parts of it is an escape, as in the CLI."""
    return _STEERS.sub(lambda match: visible(match[0]), text)
