"""What uWSGI does to its workers by itself, and many first starts at once."""

from __future__ import annotations

import signal
import time

from integration.support.waiting import eventually

from ..bounds import RESYNC_S
from ..client import Failed, ask
from ..injection import Steps, fault
from ..servers import START_S, FaultFailed, Uwsgi
from ..world import Host, World

MANY = 16
_ORDER_AGAIN_S = 5.0


@fault(hold_s=6.0)
def max_requests(world: World) -> Steps:
    """Run workers that end after some requests each."""
    with world.excused("connection"):
        world.one.uwsgi.kill()
        world.one.uwsgi.start("--max-requests=40")
    yield
    with world.excused("connection"):
        world.one.uwsgi.kill()
        world.one.uwsgi.start()


@fault(hold_s=1.0)
def chain_reload(world: World) -> Steps:
    """Reload the workers one after the other."""
    world.replace_workers(lambda: world.one.uwsgi.command("c"))
    yield


@fault(hold_s=1.0)
def sighup(world: World) -> Steps:
    """Reload the whole server by SIGHUP."""
    world.replace_workers(lambda: world.one.uwsgi.send(signal.SIGHUP))
    yield


@fault()
def cheaper(world: World) -> Steps:
    """Let the master end and start workers as if by demand, three times."""
    uwsgi = world.one.uwsgi
    with world.excused("connection"):
        uwsgi.kill()
        options = ("--cheaper=1", "--cheaper-initial=4", "--cheaper-algo=manual")
        uwsgi.start(*options, pinned=False)
    try:
        for _ in range(3):
            for wanted in (1, 4):
                _order_workers(uwsgi, wanted)
        yield
    finally:
        with world.excused("connection"):
            uwsgi.kill()
            uwsgi.start()


@fault(hold_s=0.1)
def sixteen_first_starts(world: World) -> Steps:
    """Start 16 workers at once on an empty database, and let each see the first change."""
    name = "many" + str(world.random.randrange(10**6))
    folder = world.folder / name
    host = Host(
        folder,
        name,
        workers=MANY,
        watch=folder / "waffle.watch",
        WAFFLE_REDIS_URL=world.redis.url,
        WAFFLE_REDIS_CHANNEL=name,
        WAFFLE_STORE_URL=world.database.fresh_url(name),
    )
    try:
        host.uwsgi.start()
        revision = ask(host.uwsgi.ports[0], "/update", {"A": 1, "B": 1}).data["revision"]
        if revision != 1:
            world.problem(f"the first change of an empty database is revision {revision}")
        for port in host.uwsgi.ports:
            _, seen, _, *values = ask(port, "/read").data
            if (seen, values) != (1, [1, 1, 1, 1]):
                world.problem(f"port {port} is at revision {seen}: {values}")
        world.until(
            f"{MANY} valid workers",
            lambda: all(_is_valid(port) for port in host.uwsgi.ports),
            limit_s=RESYNC_S,
        )
    except Failed as exc:
        raise FaultFailed(f"one of {MANY}: {exc}") from exc
    finally:
        host.uwsgi.kill()
    yield


def _order_workers(uwsgi: Uwsgi, wanted: int) -> None:
    """Order workers until there are as many as wanted.

    One order after the other: a worker takes its time to end on a busy machine, and of four that
    were ordered to end in that time none is left. The master may miss one.
    """
    ordered_at, seen = float("-inf"), -1

    def are_there() -> bool:
        nonlocal ordered_at, seen
        count, now = len(uwsgi.children()), time.monotonic()
        if count == wanted:
            return True
        if count != seen or now - ordered_at > _ORDER_AGAIN_S:
            uwsgi.command("-" if count > wanted else "+")
            ordered_at, seen = now, count
        return False

    eventually(f"{wanted} workers", are_there, deadline_s=START_S, interval_s=0.1)


def _is_valid(port: int) -> bool:
    status = ask(port, "/status").data
    return bool(status["state"] == "VALID" and status["watcher_alive"])
