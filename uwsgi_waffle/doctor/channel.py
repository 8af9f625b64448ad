"""Whether what one host announces is heard by the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..app_state import WaffleState
from ..checks import Finding
from ..config import ConfigKeys
from ..errors import NotifierError
from ..notifiers.base import Notice, Notifier
from .rules import finding


def check_channel(state: WaffleState, revision: int, *, serves_one_host: bool) -> Iterator[Finding]:
    """Yield what is wrong with the channel between hosts; publishes one message on it.

    :param serves_one_host: other hosts can't reach the store.
    """
    options = state.options
    if options.multiproc is False or options.watchtype == "file":
        return
    make = state.notices.make_channel
    if options.watchtype == "postgresql":
        assert make is not None
        yield from _check_postgresql(make, revision, options.store_timeout_s)
        return
    if serves_one_host:
        yield finding("D015", repr(state.store))
    if ConfigKeys.REDIS_CHANNEL not in state.app.config:
        yield finding("D016", repr(options.redis_channel))
    if make is None:
        yield finding("D014", "No module named 'redis'")
    else:
        yield from _check_redis(make, revision, options.redis_timeout_s)


def _check_redis(
    make: Callable[[], Notifier], revision: int, timeout_s: float
) -> Iterator[Finding]:
    notifier = make()
    try:
        came_back = _round_trip(notifier, revision, timeout_s)
    except NotifierError as exc:
        yield finding("D012", exc)
    else:
        if not came_back:
            yield finding("D013", f"{notifier!r}, within {timeout_s:g} s")
    finally:
        notifier.close()


def _check_postgresql(
    make: Callable[[], Notifier], revision: int, timeout_s: float
) -> Iterator[Finding]:
    from ..notifiers.postgresql import Unheard

    notifier = make()
    try:
        came_back = _round_trip(notifier, revision, timeout_s)
    except Unheard as exc:
        yield finding("D030", exc)
    except NotifierError as exc:
        yield finding("D029", exc)
    else:
        if not came_back:
            yield finding("D030", f"{notifier!r}, within {timeout_s:g} s")
    finally:
        notifier.close()


def _round_trip(notifier: Notifier, revision: int, timeout_s: float) -> bool:
    """Return whether a notifier hears what it announces.

    :raises NotifierError: it can't announce, or can't listen.
    """
    # The first notice is that of the subscription itself.
    if _await(notifier, timeout_s) is None:
        return False
    notifier.announce(revision)
    return _await(notifier, timeout_s) is not None


def _await(notifier: Notifier, timeout_s: float) -> Notice | None:
    deadline = time.monotonic() + timeout_s
    while (rest_s := deadline - time.monotonic()) > 0:
        notice = notifier.wait(rest_s)
        if notice is not None:
            return notice
    return None
