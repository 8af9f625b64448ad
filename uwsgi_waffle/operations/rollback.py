"""Settings as they were at an earlier revision."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import ChangeRefused, RevisionConflict, UnknownRevisionError
from ..masking import MASK
from ..settings.arguments import check_whole
from ..settings.declarations import PINNED
from ..snapshot import Snapshot
from ..stores.base import HistoryEntry
from .base import Settings, is_same
from .by_hand import by_hand_notice, changed_by_hand
from .describe import entries_since
from .neighbours import kept_for_others, left_notice

logger = logging.getLogger("uwsgi_waffle")

_ATTEMPTS = 5


class Plan(NamedTuple):
    """A change that was worked out and not made yet.

    :ivar raws: mapping of setting name to JSON text, or ``None`` for the default.
    :ivar revision: the store's revision that it was worked out from.
    :ivar by_hand: settings that were changed in the database without an entry in the history, and
        that the change therefore leaves as they are.
    :ivar left: settings that another living app declares, with that app's name, and that the change
        therefore leaves as they are: those that are not declared here, and at revision 0 all.
    """

    raws: dict[str, str | None]
    revision: int
    by_hand: frozenset[str] = frozenset()
    left: Mapping[str, str] = {}

    def __repr__(self) -> str:
        # A raw text may be a secret's.
        return f"Plan(revision={self.revision}, names={sorted(self.raws)})"


def plan_rollback(state: Settings, revision: int, *, names: Iterable[str] | None = None) -> Plan:
    """Return the change that would restore every setting to what it was at a revision.

    :param names: restore these only.
    :raises UnknownRevisionError: there is no such revision, or the history is too short.
    :raises ChangeRefused: names every setting that can't be restored: it is no longer declared,
        or its old value no longer fits its declaration.
    :raises StoreError: the store can't be read.
    """
    snapshot = state.refresh()
    wanted = None if names is None else set(names)
    if not 0 <= revision <= snapshot.revision:
        raise UnknownRevisionError(
            f"there is no revision {revision}: the store is at {snapshot.revision}"
        )
    if revision == snapshot.revision:
        # A store that was never made has no history that could be compared.
        made = revision > 0 or bool(snapshot.stored)
        return Plan({}, revision, changed_by_hand(state, wanted) if made else frozenset())
    entries = entries_since(state, revision)
    reaches = bool(entries) and entries[-1].revision <= max(revision, 1)
    # Nothing is older than the first change, so its entries can't show that none is missing.
    if revision == 0 and not snapshot.stored.keys() <= {entry.name for entry in entries}:
        reaches = False
    if not reaches:
        raise UnknownRevisionError(
            f"the history does not reach back to revision {revision}{_reach(entries)}"
        )
    # The oldest entry of a name comes last, and stays.
    old_raws = {
        entry.name: entry.old_raw
        for entry in entries
        if revision < entry.revision <= snapshot.revision
        and (wanted is None or entry.name in wanted)
    }
    left: dict[str, str] = {}
    if wanted is None:
        ours = () if revision == 0 else state.declarations
        left = kept_for_others(state, [name for name in old_raws if name not in ours])
        old_raws = {name: raw for name, raw in old_raws.items() if name not in left}
    raws = _restored(state, snapshot, old_raws)
    by_hand = changed_by_hand(state, wanted).difference(raws).difference(left)
    return Plan(raws, snapshot.revision, by_hand, left)


def plan_undo(
    state: Settings, revision: int, *, names: Iterable[str] | None = None
) -> tuple[Plan, frozenset[str]]:
    """Return the change that would take back what one revision changed, and nothing else.

    Also returns which of these settings were changed again since, by hand too.

    :param names: take back these only.
    :raises UnknownRevisionError: the history does not have this revision.
    :raises ChangeRefused: names every setting that can't be restored.
    :raises StoreError: the store can't be read.
    """
    snapshot = state.refresh()
    entries = entries_since(state, revision)
    wanted = None if names is None else set(names)
    made = {
        entry.name: entry
        for entry in entries
        if entry.revision == revision and (wanted is None or entry.name in wanted)
    }
    if not made:
        raise UnknownRevisionError(f"the history has no revision {revision}{_reach(entries)}")
    raws = _restored(state, snapshot, {name: entry.old_raw for name, entry in made.items()})
    later = {entry.name for entry in entries if entry.revision > revision}
    later |= changed_by_hand(state, made)
    return Plan(raws, snapshot.revision), frozenset(later.intersection(raws))


def _reach(entries: Sequence[HistoryEntry]) -> str:
    """The end of a text that says why an old revision can't be had."""
    if not entries or entries[-1].revision <= 1:
        return ""
    return (
        f": its oldest change is revision {entries[-1].revision}, older ones were removed "
        "(WAFFLE_HISTORY_LIMIT says how many are kept)"
    )


def _restored(
    state: Settings, snapshot: Snapshot, old_raws: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The change that gives settings raw texts that they had.

    :raises ChangeRefused: names every setting that can't have its text any more.
    """
    problems: dict[str, str] = {}
    raws: dict[str, str | None] = {}
    for name, raw in sorted(old_raws.items()):
        declaration = state.declarations.get(name)
        # To leave out a secret that did not change would show that a guess was right.
        secret = declaration is not None and declaration.secret
        if not secret and is_same(declaration, snapshot.stored.get(name), raw):
            continue
        if declaration is None:
            problems[name] = "not a declared setting any more; leave it out, or declare it again"
            continue
        if declaration.pinned:
            problems[name] = PINNED
            continue
        if raw == MASK:
            problems[name] = (
                "its value of then is not known: the backup that was restored since was made "
                "without --secrets; leave it out"
            )
            continue
        try:
            if raw is not None:
                declaration.decode(raw)
        except ValueError as exc:
            problems[name] = f"its value of then does not fit any more: {exc}"
        else:
            raws[name] = raw
    if problems:
        raise ChangeRefused(problems)
    return raws


def rollback(
    state: Settings,
    revision: int,
    *,
    names: Iterable[str] | None = None,
    author: str | None = None,
    reason: str | None = None,
    expected_revision: int | None = None,
) -> int:
    """Restore every setting to what it was at a revision, as one new change; return its revision.

    If nothing differs, nothing is written, and the current revision is returned. A change that
    someone makes at the same time is taken back too, unless ``expected_revision`` is given. What
    was changed in the database without an entry in the history stays, and is logged as a warning.

    :param names: restore these only.
    :param reason: for the history; it names the revision if left out.
    :raises UnknownRevisionError: there is no such revision, or the history is too short.
    :raises ChangeRefused: names every setting that can't be restored; nothing was written.
    :raises RevisionConflict: the store is not at ``expected_revision``; nothing was written.
    :raises OutcomeUnknown: the connection broke within the commit: it may have been made.
    :raises StoreError: the store failed in any other way; nothing was written.
    """
    check_whole(revision=revision, expected_revision=expected_revision)
    names = None if names is None else list(names)
    for attempt in range(_ATTEMPTS):
        plan = plan_rollback(state, revision, names=names)
        if expected_revision is not None and expected_revision != plan.revision:
            raise RevisionConflict(expected_revision, plan.revision)
        if plan.by_hand:
            logger.warning("rollback to %d: %s", revision, by_hand_notice(plan.by_hand))
        if plan.left:
            logger.warning("rollback to %d: %s", revision, left_notice(plan.left))
        if not plan.raws:
            return plan.revision
        try:
            return state.commit(
                plan.raws,
                author=author,
                reason=reason or f"rollback to revision {revision}",
                expected_revision=plan.revision,
            )
        except RevisionConflict:
            if expected_revision is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")
