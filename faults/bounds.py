"""Every bound that the checker holds the package to, and the settings they follow from.

They are those of docs/promises.md, with "What may block", computed from short intervals so
that a run does not take an hour. :data:`MARGIN_S` is what a machine adds, more if it is busy.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from integration.support.stopwatch import slowness

_SLOWNESS = round(slowness(), 1)
RESYNC_INTERVAL_S = 2.0
# A server that nothing harms must answer within it on a busy machine, too.
STORE_TIMEOUT_S = 0.5 * _SLOWNESS
WRITE_TIMEOUT_S = 2.0
REDIS_TIMEOUT_S = 0.5
POLL_INTERVAL_S = 0.1
MARGIN_S = 2.0 * _SLOWNESS

#: the cap of the pause between two attempts at a store that fails
_BACKOFF_S = 2.0
#: the least that PostgreSQL's driver takes for a connection that is not answered
_CONNECT_S = 2.0
#: what one turn of a watcher may spend on Redis, and on the store
_TURN_S = 2 * REDIS_TIMEOUT_S + 2 * STORE_TIMEOUT_S

CONFIG: dict[str, Any] = {
    "WAFFLE_RESYNC_INTERVAL": RESYNC_INTERVAL_S,
    "WAFFLE_STORE_TIMEOUT": STORE_TIMEOUT_S,
    "WAFFLE_WRITE_TIMEOUT": WRITE_TIMEOUT_S,
    "WAFFLE_REDIS_TIMEOUT": REDIS_TIMEOUT_S,
    "WAFFLE_POLL_INTERVAL": POLL_INTERVAL_S,
    "WAFFLE_REPORT_INTERVAL": 2,
    "WAFFLE_WATCHTYPE": "redis",
}


class Bound(NamedTuple):
    """How far a request may lag behind what was acknowledged on its host before it began.

    :ivar lag_s: while the fault lasts and for ``after_s`` more, the age of a change from which on
        it must be seen; infinite if only the fault's end brings it.
    :ivar after_s: how long after the fault's end the lag is allowed; from then on it is 0.
    """

    lag_s: float
    after_s: float
    why: str


RESYNC_S = RESYNC_INTERVAL_S + _TURN_S + MARGIN_S
STORE_S = _BACKOFF_S + _CONNECT_S + _TURN_S + MARGIN_S

STALE = {
    "never": Bound(0.0, 0.0, "the page says it to each request: no lag at all"),
    "resync": Bound(
        RESYNC_S, RESYNC_S, "there is no page: WAFFLE_RESYNC_INTERVAL, one turn of the watcher"
    ),
    "store": Bound(
        math.inf,
        STORE_S,
        "the worker can't read the store, and says so: until its end, 2 s of backoff, one attempt",
    ),
}

#: a change that was committed, acknowledged or not, is seen everywhere after this
FAR_S = RESYNC_S
#: within a worker, from before the look at the settings to the answer
READ_S = 2 * STORE_TIMEOUT_S + MARGIN_S
WRITE_S = WRITE_TIMEOUT_S + _CONNECT_S + 1.0 + _TURN_S + READ_S
#: from the end of the last fault until every worker's state is VALID again: failed announcements
#: are tried again every 10 s at least
VALID_S = 10.0 + STORE_S


def table() -> str:
    """Return all bounds as a table."""
    rows = [
        ("lag on the host, no fault", 0.0, "a request misses nothing that was acknowledged"),
        *((f"lag on the host, {name}", bound.lag_s, bound.why) for name, bound in STALE.items()),
        *(
            (f"  and so long after, {name}", bound.after_s, "")
            for name, bound in STALE.items()
            if bound.after_s
        ),
        ("other host, or unannounced", FAR_S, "a lost message costs a resync"),
        ("a read, in the worker", READ_S, "twice WAFFLE_STORE_TIMEOUT"),
        ("a change, in the worker", WRITE_S, "WAFFLE_WRITE_TIMEOUT, watch file 1 s, Redis, a read"),
        ("every state VALID again", VALID_S, "a failed announcement is repeated within 10 s"),
    ]
    lines = [f"bounds in s (this machine's {MARGIN_S:g} s included where not 0):"]
    return "\n".join(lines + [f"  {what:32} {s:6.1f}  {why}" for what, s, why in rows])
