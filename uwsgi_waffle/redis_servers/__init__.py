"""How a Redis is named, reached and understood, whether settings or notices are kept there."""

from __future__ import annotations

from .urls import check_redis_url

__all__ = ["check_redis_url"]
