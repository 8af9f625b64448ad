"""Small Flask apps that the tests serve with real servers."""

from __future__ import annotations
