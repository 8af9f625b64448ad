"""Injects faults into real servers under load, and checks the record; ``python -m faults``."""

from __future__ import annotations
