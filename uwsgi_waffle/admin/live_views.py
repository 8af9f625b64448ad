"""Answers to an open page: workers, newer revisions, one switch."""

from __future__ import annotations

from flask import Response, current_app, jsonify, request

from ..app_state import state_of
from ..errors import Laggard, Laggards, RevisionConflict, StoreError
from .access import current_access, current_author
from .drafts import fingerprint, key_of, widget_of
from .frame import Answer, Frame, not_saved
from .past import made_since
from .reports import make_workers
from .tokens import is_token_valid

# The page asks again, and a worker is busy for so long.
_REACH_S = 0.2
_SHOWN_LATE = 3


class LivePages(Frame):
    """The view functions that a script asks again and again, and the list of workers."""

    def workers(self) -> Answer:
        """Show how every process is doing."""
        return self.page("workers.html", **make_workers(state_of(current_app))._asdict())

    def reach(self) -> Answer:
        """Return how many processes serve a revision, and why the others don't, as JSON.

        ``of`` is null where it is not known how many there are.
        """
        revision = request.args.get("revision", 0, type=int)
        late: tuple[Laggard, ...] = ()
        known: int | None
        try:
            served = known = state_of(current_app).wait(revision, timeout_s=_REACH_S).served
        except Laggards as exc:
            served, late = exc.served, exc.laggards
            known = exc.known if exc.all_known else None
        shown = [str(each) for each in late[:_SHOWN_LATE]]
        if more := len(late) - len(shown):
            shown.append(f"and {more} more")
        return jsonify(have=served, of=known, late=shown)

    def news(self) -> Answer:
        """Return the revision that is current, as JSON; 304 while it is the one that is known."""
        state = state_of(current_app)
        revision = state.snapshot.revision
        seen = request.args.get("seen", revision, type=int)
        response: Response = jsonify(revision=revision)
        response.set_etag(f"{state.snapshot.epoch}-{revision}-{seen}")
        response.make_conditional(request)
        if response.status_code == 200 and seen < revision:
            items = made_since(state, seen, current_access())
            names = list(dict.fromkeys(item.title for item in items))
            authors = list(dict.fromkeys(item.author or "someone" for item in items))
            response.data = jsonify(revision=revision, names=names, authors=authors).data
        return response

    def switch(self) -> Answer:
        """Set one switch, which was confirmed in place; return what the page needs, as JSON."""
        state = state_of(current_app)
        name = request.form.get("name", "")
        declaration = state.declarations.get(name)
        reason = request.form.get("reason", "").strip()
        wanted = request.form.get("value") == "true"
        problem = self.problem_of_reason(reason)
        if not is_token_valid():
            problem = "This page was open for too long, or your session ended: load it again."
        elif declaration is None or not current_access().may_edit(declaration):
            problem = "You may not change this."
        elif widget_of(state.snapshot, declaration).kind != "switch":
            problem = "This is not a switch."
        if problem or declaration is None:
            return self._answer({"problem": problem}, 422)
        try:
            raw = declaration.encode(wanted)
            revision = state.commit(
                {name: None if raw == declaration.default_raw else raw},
                author=current_author(),
                reason=reason or None,
                expected_revision=request.form.get("revision", -1, type=int),
            )
        except ValueError as exc:
            return self._answer({"problem": str(exc)}, 422)
        except RevisionConflict:
            return self._answer(
                {"problem": "Settings were changed since. Load the page again."}, 409
            )
        except StoreError as exc:
            return self._answer({"problem": not_saved(exc)}, 503)
        self.remember(state)
        snapshot = state.snapshot
        widget = widget_of(snapshot, declaration)
        base = f"{widget.kind}.{fingerprint(declaration, widget, snapshot)}"
        return self._answer({"revision": revision, "key": key_of(name), "base": base}, 200)

    @staticmethod
    def _answer(content: dict[str, object], code: int) -> Response:
        response: Response = jsonify(content)
        response.status_code = code
        return response
