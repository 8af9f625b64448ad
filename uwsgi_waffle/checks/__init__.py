"""Check an ini of uWSGI for what breaks or weakens the package's promises.

Every finding has a stable id, listed in :data:`RULES`.
"""

from __future__ import annotations

from .catalogue import RULES, Rule
from .check import check_file, find_server
from .model import CheckError, Finding, Report

__all__ = ["RULES", "CheckError", "Finding", "Report", "Rule", "check_file", "find_server"]
