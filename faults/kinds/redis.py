"""Redis stopped, dead, absent, silent, or talking nonsense.

None of it may cost a host its own changes; other hosts learn of them by the resync.
"""

from __future__ import annotations

import signal

from ..injection import Steps, fault
from ..servers import BlackHole
from ..world import World

CHANNEL = "waffleconf"
NONSENSE = (
    b"",
    b"{oops",
    b"null",
    b"\xff\xfe\x00",
    b'{"revision": "many"}',
    b'{"revision": -1}',
    b'{"revision": 123456789012345678901234567890}',
    b'{"revision": 999999999}',
    b"[" * 50_000,
    b"x" * 1_000_000,
)


@fault()
def redis_stopped(world: World) -> Steps:
    """SIGSTOP it, SIGCONT it later."""
    world.redis.send(signal.SIGSTOP)
    try:
        yield
    finally:
        world.redis.send(signal.SIGCONT)


@fault(short=True)
def redis_killed(world: World) -> Steps:
    """Kill -9 it, start it again later."""
    world.redis.stop()
    yield
    world.redis.start()


@fault(hold_s=1.0)
def redis_restarted(world: World) -> Steps:
    """Kill -9 it and start it at once, twice."""
    for _ in range(2):
        world.redis.stop()
        world.redis.start()
    yield


@fault(explains=("connection",))
def redis_absent_at_start(world: World) -> Steps:
    """Start uWSGI while there is no Redis."""
    world.redis.stop()
    world.one.uwsgi.kill()
    world.one.uwsgi.start()
    yield
    world.redis.start()


@fault()
def redis_clients_killed(world: World) -> Steps:
    """CLIENT KILL all connections, again and again."""
    for kind in ("pubsub", "normal", "pubsub"):
        world.redis.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    yield
    world.redis.ask("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")


@fault(hold_s=3.0)
def redis_black_hole(world: World) -> Steps:
    """Put something in its place that accepts, and never answers."""
    world.redis.stop()
    hole = BlackHole(world.redis.port)
    try:
        yield
    finally:
        hole.close()
    world.redis.start()


@fault()
def redis_flooded(world: World) -> Steps:
    """Publish malformed messages on our channel, some thousands."""
    small = [message for message in NONSENSE if len(message) < 100]
    for _ in range(30):
        world.redis.publish(CHANNEL, [*NONSENSE, *small * 30])
    yield
