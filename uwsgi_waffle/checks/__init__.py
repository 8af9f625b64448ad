"""Check an ini of uWSGI for what breaks or weakens the package's promises.

Every finding has a stable id, listed in :data:`RULES`.
"""

from __future__ import annotations

from uwsgi_waffle.checks.catalogue import RULES, Rule
from uwsgi_waffle.checks.check import check_file
from uwsgi_waffle.checks.model import CheckError, Finding, Report

__all__ = ["RULES", "CheckError", "Finding", "Report", "Rule", "check_file"]
