"""What the tests with real servers share: find, start, ask, wait, reap."""

from __future__ import annotations
