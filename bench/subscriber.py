"""The floor of propagation: redis-py's own receive loop, and nothing else."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import redis

from .reports import pack


def main(url: str, channel: str, reports: str, receiver: str) -> None:
    """Report every number that is published on a channel."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(reports)
    client: Any = redis.Redis.from_url(url)
    pubsub = client.pubsub()
    pubsub.subscribe(channel)
    for message in pubsub.listen():
        at_ns = time.monotonic_ns()
        number = int(message["data"]) if message["type"] == "message" else 0
        sender.send(pack(int(receiver), number, at_ns))


if __name__ == "__main__":
    main(*sys.argv[1:])
