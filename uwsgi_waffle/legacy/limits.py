"""How much of anything a stored value may hold, and the error that says why one is refused."""

from __future__ import annotations

from ..errors import WaffleError

#: characters of base64; four times what the TEXT column of MySQL holds
MAX_TEXT_LENGTH = 256 * 1024
#: items and characters, each counted as often as it occurs in the value
MAX_WEIGHT = 1024 * 1024
MAX_DEPTH = 100
MAX_DIGITS = 1000
MAX_INTEGER_BITS = 4096


class LegacyError(WaffleError, ValueError):
    """A stored text is not the plain value of a setting; the message never shows the value."""
