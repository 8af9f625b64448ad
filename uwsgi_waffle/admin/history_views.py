"""The history, and ways back in it."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from flask import current_app, redirect, request, url_for

from .. import operations
from ..app_state import WaffleState, state_of
from ..errors import ChangeRefused, OutcomeUnknown, RevisionConflict, StoreError, WaffleError
from .access import current_access, current_author, why_locked
from .frame import EXPIRED, FOREIGN, Answer, Frame, not_saved
from .past import DAMAGED, Asked, Made, made_by, make_history, may_see, title_of
from .review import make_lines
from .tokens import is_token_valid, was_ours

HISTORY_SIZE = 50
_MAX_PAGE = 1000


class HistoryPages(Frame):
    """The view functions of the history."""

    def history(self) -> Answer:
        """Show who changed what, when and why."""
        state = state_of(current_app)
        args = request.args
        asked = Asked(
            args.get("name") or None,
            args.get("author") or None,
            _day(args.get("since", "")),
        )
        page = min(max(args.get("page", 1, type=int), 1), _MAX_PAGE)
        access = current_access()
        name = asked.name or ""
        made: list[Made] = []
        more, damaged, notice, code = False, 0, "", 200
        try:
            made, more, damaged = make_history(state, asked, access, page=page, size=HISTORY_SIZE)
        except StoreError as exc:
            notice, code = f"The history can't be read now: {exc}", 503
        except DAMAGED as exc:
            notice = f"The history can't be read, because a row of it is damaged: {exc}"
        return self.page(
            "history.html",
            code,
            made=made,
            more=more,
            damaged=damaged,
            page=page,
            name=asked.name,
            by=asked.author,
            since=args.get("since", "") if asked.since else "",
            # The label of a setting that this person may not see is not for them.
            title=title_of(state, name) if may_see(state, access, name) else name,
            names=[(n, d.label or n) for n, d in state.declarations.items() if access.may_view(d)],
            notice=notice,
        )

    def rollback(self) -> Answer:
        """Show what going back, or undoing one change, would alter; on a POST, do it."""
        state = state_of(current_app)
        undo = request.values.get("undo", type=int)
        revision = request.values.get("to", type=int) if undo is None else undo
        name = request.values.get("name") or None
        reason = request.form.get("reason", "").strip()
        sent = request.form.get("revision", -1, type=int)
        notice, code, conflict = "", 200, False
        outcome = "Nothing was changed"
        try:
            if revision is None:
                raise operations.UnknownRevisionError("no revision is named")
            if request.method == "POST":
                if not is_token_valid():
                    notice, code = (EXPIRED if was_ours(current_author()) else FOREIGN), 400
                elif self.problem_of_reason(reason):
                    notice, code = self.problem_of_reason(reason), 422
                else:
                    made = self._go_back(state, revision, undo, name, reason, sent)
                    self.remember(state)
                    return redirect(url_for(".index", saved=made), 303)
        except RevisionConflict:
            code, conflict = 409, True
        except StoreError as exc:
            notice, code = not_saved(exc), 503
            if isinstance(exc, OutcomeUnknown):
                outcome = "It is not known whether this was done: look at the history later"
        except WaffleError as exc:
            return self._refuse(state, revision, exc)
        except DAMAGED:
            pass  # shown below
        try:
            # So that what is compared is what the change would be made from.
            state.update_conf()
            assert revision is not None
            plan, overtaken = self._plan(state, revision, undo, name)
        except StoreError as exc:
            text = f"The store fails: {exc}. {outcome}."
            return self.page("stop.html", 503, title="Not now", notice=text, problems={})
        except WaffleError as exc:
            return self._refuse(state, revision, exc)
        except DAMAGED as exc:
            text = f"A row of the history is damaged: {exc}. {outcome}."
            return self.page("stop.html", 503, title="Not now", notice=text, problems={})
        if conflict and not plan.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        access = current_access()
        seen = [n for n in plan.by_hand if may_see(state, access, n)]
        if seen and not notice:
            text = operations.by_hand_notice(seen)
            notice = f"{text[0].upper()}{text[1:]}."
        left = {n: app for n, app in plan.left.items() if may_see(state, access, n)}
        if left and not notice:
            text = operations.left_notice(left)
            notice = f"{text[0].upper()}{text[1:]}."
        return self.page(
            "preview.html",
            code,
            lines=make_lines(state, plan.raws, overlaps=overtaken),
            problems={},
            revision=plan.revision,
            reason=reason,
            notice=notice,
            conflict=conflict,
            by=made_by(state, sent, current_author()) if conflict else "others",
            meanwhile=[],
            rollback=revision,
            undo=undo,
            name=name,
        )

    def _go_back(
        self,
        state: WaffleState,
        revision: int,
        undo: int | None,
        name: str | None,
        reason: str,
        expected: int,
    ) -> int:
        plan, _ = self._plan(state, revision, undo, name)
        if expected != plan.revision:
            raise RevisionConflict(expected, plan.revision)
        if not plan.raws:
            return plan.revision
        made = "rollback to" if undo is None else "undo of"
        return state.commit(
            plan.raws,
            author=current_author(),
            reason=reason or f"{made} revision {revision}",
            expected_revision=plan.revision,
        )

    @staticmethod
    def _plan(
        state: WaffleState, revision: int, undo: int | None, name: str | None
    ) -> tuple[operations.Plan, frozenset[str]]:
        access = current_access()
        if name is not None and not may_see(state, access, name):
            # The same for every such name, whether there is a setting of it or not.
            raise operations.UnknownRevisionError(f"the history has no change of {name}")
        names = None if name is None else [name]
        if undo is None:
            plan, overtaken = (
                operations.plan_rollback(state, revision, names=names),
                frozenset[str](),
            )
        else:
            plan, overtaken = operations.plan_undo(state, undo, names=names)
        locked = [n for n in plan.raws if not access.may_edit(state.declarations[n])]
        if locked:
            raise ChangeRefused({n: why_locked(state.declarations[n]) for n in locked})
        return plan, overtaken

    def _refuse(self, state: WaffleState, revision: int | None, exc: WaffleError) -> Answer:
        found = exc.problems if isinstance(exc, ChangeRefused) else {}
        # A problem quotes the value of then.
        problems = {n: why for n, why in found.items() if may_see(state, current_access(), n)}
        if len(problems) < len(found):
            problems["settings that you may not see"] = "they would be changed too"
        text = str(exc)[:1].upper() + str(exc)[1:]
        title = f"Can't go back to revision {revision}"
        notice = "Nothing was changed." if problems else f"{text}. Nothing was changed."
        return self.page("stop.html", 422, title=title, notice=notice, problems=problems)


def _day(text: str) -> datetime | None:
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc) if text else None
    return None
