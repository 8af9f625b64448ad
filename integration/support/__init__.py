"""What integration tests, faults and benchmarks share: find, start, ask, wait, reap."""

from __future__ import annotations
