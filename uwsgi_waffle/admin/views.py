"""The pages of the admin, whatever serves them: a blueprint of their own, or Flask-Admin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import (
    Response,
    current_app,
    make_response,
    redirect,
    request,
    send_from_directory,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from .. import operations
from ..app_state import WaffleState, state_of
from ..errors import ChangeRefused, RevisionConflict, StoreError, WaffleError
from ..version import __version__
from .access import current_author
from .drafts import (
    MAX_REASON_LENGTH,
    Draft,
    Outcome,
    check_proofs,
    read_draft,
    touched,
    work_out,
)
from .presenting import Made, made_since, make_groups, make_history, make_lines, make_workers
from .tokens import is_token_valid, make_token, require_secret_key

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = Path(__file__).parent / "static"
#: of a form with all settings; the app's own limit may be one of them, and too small
MAX_FORM_BYTES = 16 * 1024 * 1024
HISTORY_SIZE = 50
_MAX_PAGE = 1000
_EXPIRED = (
    "This page was open for too long, or was made for another session. Nothing was saved, and what "
    "you typed is still here: look it over and send it again. If this goes on, the app's workers "
    "may have different SECRET_KEYs."
)

Render = Callable[..., str]
Answer = str | BaseResponse


class Pages:
    """The view functions.

    :param render: called with a template's name and its variables.
    :param layout: the template that every page extends.
    """

    def __init__(self, render: Render, layout: str) -> None:
        self._render = render
        self._layout = layout

    def begin(self) -> None:
        """Check what every page needs, before it is made.

        :raises ConfigurationError: the app lacks ``SECRET_KEY`` or :class:`WaffleConf`.
        """
        require_secret_key(current_app._get_current_object())  # type: ignore[attr-defined]
        state_of(current_app)
        try:
            request.max_content_length = MAX_FORM_BYTES
            request.max_form_memory_size = MAX_FORM_BYTES
        except AttributeError:  # Flask before 3.1 has only the app's own limit
            pass

    def index(self) -> Answer:
        """Show every setting."""
        saved = request.args.get("saved", type=int)
        return self._form(saved=saved, unchanged="unchanged" in request.args)

    def edit(self) -> Answer:
        """Show every setting, with what was typed already."""
        draft = read_draft(request.form, state_of(current_app).declarations)
        if not is_token_valid():
            return self._form(draft, notice=_EXPIRED, code=400)
        return self._form(draft)

    def preview(self) -> Answer:
        """Show what the change would alter, before it is made."""
        state = state_of(current_app)
        draft = self._draft(state)
        if not is_token_valid():
            return self._form(draft, notice=_EXPIRED, code=400)
        outcome = work_out(state, draft)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        if not outcome.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        return self._look_over(draft, outcome)

    def save(self) -> Answer:
        """Make a change that was looked over."""
        state = state_of(current_app)
        draft = self._draft(state, chosen_only=True)
        if not is_token_valid():
            return self._form(draft, notice=_EXPIRED, code=400)
        outcome = work_out(state, draft)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        if not outcome.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        problems = check_proofs(state, draft, outcome.raws)
        if problems:
            return self._look_over(draft, outcome, problems=problems, code=422)
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
            return self._look_over(draft, outcome, notice=_not_saved(exc), code=503)
        return redirect(url_for(".index", saved=revision), 303)

    def history(self) -> Answer:
        """Show who changed what, when and why."""
        state = state_of(current_app)
        name = request.args.get("name") or None
        page = min(max(request.args.get("page", 1, type=int), 1), _MAX_PAGE)
        made: list[Made] = []
        more, notice, code = False, "", 200
        try:
            made, more = make_history(state, name=name, page=page, size=HISTORY_SIZE)
        except StoreError as exc:
            notice, code = f"The history can't be read now: {exc}", 503
        return self._page(
            "history.html",
            code,
            made=made,
            more=more,
            page=page,
            name=name,
            names=list(state.declarations),
            notice=notice,
        )

    def rollback(self) -> Answer:
        """Show what going back to a revision would alter; on a POST, go back."""
        state = state_of(current_app)
        revision = request.values.get("to", type=int)
        name = request.values.get("name") or None
        names = None if name is None else [name]
        reason = request.form.get("reason", "").strip()[:MAX_REASON_LENGTH]
        notice, code, conflict = "", 200, False
        try:
            if revision is None:
                raise operations.UnknownRevisionError("no revision is named")
            if request.method == "POST":
                if is_token_valid():
                    made = operations.rollback(
                        state,
                        revision,
                        names=names,
                        author=current_author(),
                        reason=reason or None,
                        expected_revision=request.form.get("revision", -1, type=int),
                    )
                    return redirect(url_for(".index", saved=made), 303)
                notice, code = _EXPIRED, 400
        except RevisionConflict:
            code, conflict = 409, True
        except StoreError as exc:
            notice, code = _not_saved(exc), 503
        except WaffleError as exc:
            return self._refuse(revision, exc)
        try:
            # So that what is compared is what the change would be made from.
            state.update_conf()
            assert revision is not None
            plan = operations.plan_rollback(state, revision, names=names)
        except StoreError as exc:
            text = f"The store fails: {exc}. Nothing was changed; try again."
            return self._page("stop.html", 503, title="Not now", notice=text, problems={})
        except WaffleError as exc:
            return self._refuse(revision, exc)
        return self._page(
            "preview.html",
            code,
            lines=make_lines(state, plan.raws),
            problems={},
            revision=plan.revision,
            reason=reason,
            notice=notice,
            conflict=conflict,
            meanwhile=[],
            rollback=revision,
            name=name,
        )

    def workers(self) -> Answer:
        """Show how every process is doing."""
        reports, problem = make_workers(state_of(current_app))
        return self._page("workers.html", reports=reports, problem=problem)

    def asset(self, filename: str) -> Answer:
        """Return a style sheet or a script of the pages."""
        return send_from_directory(ASSETS, filename, max_age=3600)

    def _draft(self, state: WaffleState, *, chosen_only: bool = False) -> Draft:
        draft = read_draft(request.form, state.declarations, chosen_only=chosen_only)
        return touched(draft, state.declarations, state.snapshot)

    def _conflict(self, draft: Draft) -> Answer:
        state = state_of(current_app)
        try:
            # The request's own snapshot is the one before the other change.
            state.update_conf()
        except StoreError as exc:
            return self._look_over(draft, work_out(state, draft), notice=_not_saved(exc), code=503)
        outcome = work_out(state, draft)
        if outcome.problems:
            return self._form(draft, problems=outcome.problems, code=422)
        if not outcome.raws:
            return redirect(url_for(".index", unchanged=1), 303)
        return self._look_over(draft, outcome, code=409)

    def _look_over(self, draft: Draft, outcome: Outcome, *, code: int = 200, **more: Any) -> Answer:
        state = state_of(current_app)
        conflict = code == 409 or bool(outcome.overlaps)
        problems = more.pop("problems", None)
        return self._page(
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
            meanwhile=made_since(state, draft.revision),
            rollback=None,
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
        groups = make_groups(state, query="" if problems else query, draft=draft, problems=problems)
        fields = [field for group in groups for field in group.fields]
        return self._page(
            "index.html",
            code,
            groups=groups,
            fields=fields,
            query=query,
            problems=problems or {},
            # As long as something typed is kept, the page still comes from that revision.
            revision=draft.revision if draft and draft.entries else state.snapshot.revision,
            reason=draft.reason if draft else "",
            undeclared=operations.undeclared(state),
            **{"notice": "", "saved": None, "unchanged": False, **more},
        )

    def _refuse(self, revision: int | None, exc: WaffleError) -> Answer:
        problems = exc.problems if isinstance(exc, ChangeRefused) else {}
        text = str(exc)[:1].upper() + str(exc)[1:]
        title = f"Can't go back to revision {revision}"
        notice = "Nothing was changed." if problems else f"{text}. Nothing was changed."
        return self._page("stop.html", 422, title=title, notice=notice, problems=problems)

    def _page(self, template: str, code: int = 200, **context: Any) -> Response:
        state = state_of(current_app)
        text = self._render(
            f"waffle_admin/{template}",
            layout=f"waffle_admin/{self._layout}",
            page_template=template,
            # So that no browser shows a new page with an old script.
            version=__version__,
            token=make_token(),
            app_name=current_app.name,
            status=state.engine.status(),
            max_reason_length=MAX_REASON_LENGTH,
            current_revision=state.snapshot.revision,
            author=current_author(),
            **context,
        )
        return make_response(text, code)


def _not_saved(exc: StoreError) -> str:
    return f"Nothing was saved, because the store fails: {exc}. What you typed is still here."
