"""How much a stored value may hold and cost, and the error that says why one is refused."""

from __future__ import annotations

#: characters of base64; four times what the TEXT column of MySQL holds
MAX_TEXT_LENGTH = 256 * 1024
#: items and characters, each counted as often as it occurs in the value
MAX_WEIGHT = 1024 * 1024
MAX_DEPTH = 100
MAX_DIGITS = 1000
MAX_INTEGER_BITS = 4096
#: of processor time, for one text
ROW_CPU_S = 2.0
#: bytes above what the child has when it starts
ROW_MEMORY = 256 * 1024 * 1024


class Refused(ValueError):
    """A stored text is not the plain value of a setting; the message never shows the value."""
