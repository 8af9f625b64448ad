"""The form with every setting, its review, and saving."""

from __future__ import annotations

from typing import Any

from flask import current_app, redirect, request, url_for

from .. import operations
from ..app_state import WaffleState, state_of
from ..errors import RevisionConflict, StoreError
from .access import current_access, current_author, why_locked
from .drafts import Draft, Outcome, read_draft, touched, work_out
from .fields import make_groups
from .frame import EXPIRED, FOREIGN, NOTHING_TICKED, Answer, Frame, not_saved
from .past import made_by, made_since
from .review import make_lines
from .tokens import is_token_valid, was_ours


class FormPages(Frame):
    """The view functions of a change."""

    def index(self) -> Answer:
        """Show every setting."""
        state = state_of(current_app)
        saved = request.args.get("saved", 0, type=int)
        left = request.args.get("left", 0, type=int)
        # On the way back the next page may come from a host that is cut off.
        unseen = saved > state.snapshot.revision and not self.shows_saved(state)
        unchanged = "unchanged" in request.args
        return self._form(saved=saved, left=left, unseen=unseen, unchanged=unchanged)

    def edit(self) -> Answer:
        """Show every setting, with what was typed already."""
        draft = self._sent(state_of(current_app))
        refused = self._refused(draft)
        return self._form(draft) if refused is None else refused

    def preview(self) -> Answer:
        """Show what the change would alter, before it is made."""
        state = state_of(current_app)
        draft = self._draft(state).retyped
        refused = self._refused(draft)
        if refused is not None:
            return refused
        outcome = self._work_out(state, draft)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        if not outcome.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        return self._look_over(draft, outcome)

    def save(self) -> Answer:
        """Make a change that was looked over."""
        state = state_of(current_app)
        draft = self._draft(state)
        refused = self._refused(draft)
        if refused is not None:
            return refused
        outcome = self._work_out(state, draft.chosen, saving=True)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        # What was left unticked stays on the page until it is saved or left.
        if not outcome.raws and len(draft.chosen.entries) == len(draft.entries):
            return redirect(url_for(".index", unchanged=1), 303)
        reason_problem = self.problem_of_reason(draft.reason)
        if outcome.unproved or reason_problem or not outcome.raws:
            return self._look_over(
                draft,
                problems=outcome.unproved,
                notice=reason_problem or ("" if outcome.unproved else NOTHING_TICKED),
                code=422,
            )
        try:
            revision = state.commit(
                outcome.raws,
                author=current_author(),
                reason=draft.reason or None,
                expected_revision=draft.revision,
            )
        except RevisionConflict:
            return self._conflict(draft)
        except StoreError as exc:
            return self._look_over(draft, notice=not_saved(exc), code=503)
        self.remember(state)
        left = len(draft.entries) - len(draft.chosen.entries)
        return redirect(url_for(".index", saved=revision, left=left or None), 303)

    def _draft(self, state: WaffleState) -> Draft:
        return touched(self._sent(state), state.declarations, state.snapshot)

    @staticmethod
    def _sent(state: WaffleState) -> Draft:
        access = current_access()
        seen = [name for name, each in state.declarations.items() if access.may_view(each)]
        return read_draft(request.form, seen)

    @staticmethod
    def _work_out(state: WaffleState, draft: Draft, *, saving: bool = False) -> Outcome:
        """Return the changes of a draft, and those that this user may not make."""
        outcome = work_out(state, draft, saving=saving)
        access = current_access()
        for name in draft.entries:
            if not access.may_edit(state.declarations[name]):
                outcome.problems[name] = why_locked(state.declarations[name])
        return outcome

    def _refused(self, draft: Draft) -> Answer | None:
        """The answer to a form that is none of this session's, or else ``None``."""
        if is_token_valid():
            return None
        if was_ours(current_author()):
            return self._form(draft, notice=EXPIRED, code=400)
        return self._form(notice=FOREIGN, code=400)

    def _conflict(self, draft: Draft) -> Answer:
        state = state_of(current_app)
        try:
            # The request's own snapshot is the one before the other change.
            state.update_conf()
        except StoreError as exc:
            return self._look_over(draft, notice=not_saved(exc), code=503)
        draft = touched(draft, state.declarations, state.snapshot)
        outcome = self._work_out(state, draft)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        if not outcome.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        return self._look_over(draft, outcome, code=409)

    def _look_over(
        self, draft: Draft, outcome: Outcome | None = None, *, code: int = 200, **more: Any
    ) -> Answer:
        state = state_of(current_app)
        if outcome is None:
            # All of the draft, what was left unticked too.
            outcome = self._work_out(state, draft, saving=True)
            if outcome.problems:
                return self._form(draft, problems=outcome.problems, code=422)
            if not outcome.raws:
                # What was lost on the way back, or what someone else did as well, is in effect.
                return redirect(url_for(".index", unchanged=1), 303)
        choosing = any(not entry.chosen for entry in draft.entries.values())
        conflict = code == 409 or bool(outcome.overlaps) or choosing
        problems = more.pop("problems", None)
        return self._kept(
            "preview.html",
            409 if conflict and code == 200 else code,
            lines=make_lines(
                state,
                outcome.raws,
                draft=draft,
                overlaps=outcome.overlaps,
                problems=problems,
            ),
            problems=problems or {},
            revision=state.snapshot.revision,
            reason=draft.reason,
            conflict=conflict,
            by=made_by(state, draft.revision, current_author()) if conflict else "others",
            meanwhile=made_since(state, draft.revision, current_access()),
            rollback=None,
            undo=None,
            name=None,
            **{"notice": "", **more},
        )

    def _form(
        self,
        draft: Draft | None = None,
        *,
        problems: dict[str, str] | None = None,
        code: int = 200,
        **more: Any,
    ) -> Answer:
        state = state_of(current_app)
        query = request.values.get("q", "").strip()
        if draft is not None:
            draft = touched(draft, state.declarations, state.snapshot)
        only = request.args.get("only", "")
        groups = make_groups(
            state,
            access=current_access(),
            query="" if problems else query,
            only=only,
            draft=draft,
            problems=problems,
        )
        fields = [field for group in groups for field in group.fields]
        return self._kept(
            "index.html",
            code,
            groups=groups,
            fields=fields,
            query=query,
            only=only,
            problems=problems or {},
            # As long as something typed is kept, the page still comes from that revision.
            revision=draft.revision if draft and draft.entries else state.snapshot.revision,
            reason=draft.reason if draft else "",
            undeclared=operations.undeclared(state) if current_access().view is True else [],
            **{"notice": "", "saved": 0, "left": 0, "unseen": False, "unchanged": False, **more},
        )

    def _kept(self, template: str, code: int, **context: Any) -> Answer:
        """A page that the back button finds again, with what was typed into it."""
        response = self.page(template, code, **context)
        # Of this browser alone. With no-store it would fetch the page again, and lose the text.
        response.headers["Cache-Control"] = "private, no-cache"
        return response
