"""Moving over: what Flask-WaffleConf stored, read without running anything of it."""

from __future__ import annotations

from .decode import decode_legacy
from .limits import LegacyError
from .plan import LegacyPlan, Verdict, import_legacy
from .rows import read_rows

__all__ = [
    "LegacyError",
    "LegacyPlan",
    "Verdict",
    "decode_legacy",
    "import_legacy",
    "read_rows",
]
