"""How a Redis is named, reached and understood, whether settings or notices are kept there."""

from __future__ import annotations

#: what the URL of a Redis begins with
SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)
