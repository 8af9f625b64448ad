"""Moving over: what Flask-WaffleConf stored, read without running anything of it."""

from __future__ import annotations

from .plan import LegacyPlan, Verdict, import_legacy
from .reader import LegacyError, LegacyReader, decode_legacy
from .rows import read_rows

__all__ = [
    "LegacyError",
    "LegacyPlan",
    "LegacyReader",
    "Verdict",
    "decode_legacy",
    "import_legacy",
    "read_rows",
]
