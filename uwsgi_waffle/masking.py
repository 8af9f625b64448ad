"""Masks passwords in texts that are logged or raised."""

from __future__ import annotations

import re


def redact(text: str) -> str:
    """Return a text in which every URL's password is masked."""
    # Up to the last @, because a password that nobody quoted may hold one itself.
    text = re.sub(r"(\w://[^/@\s:]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]\w*(?:passw(?:or)?d|passphrase)=)[^&\s]*", r"\1***", text)
