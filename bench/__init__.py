"""Benchmarks: ``make bench`` prints medians and ratios that come from one run."""

from __future__ import annotations
