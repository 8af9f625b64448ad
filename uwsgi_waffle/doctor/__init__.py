"""Examines an app where it is deployed: its store, its files, its workers and its uWSGI ini."""

from __future__ import annotations

from .examination import Diagnosis, Finding, check_ini, examine, not_set_up
from .rules import RULES

__all__ = ["RULES", "Diagnosis", "Finding", "check_ini", "examine", "not_set_up"]
