"""Settings as an app declares them: their types, defaults, bounds and texts."""

from __future__ import annotations
