"""Shared parts of the stores that use an SQL database through a library."""

from __future__ import annotations
