"""The frame of every page: what it needs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Response, current_app, make_response, request, send_from_directory, session
from werkzeug.wrappers import Response as BaseResponse

from ..app_state import NO_REPORTS, WaffleState, state_of
from ..errors import OutcomeUnknown, StoreError
from ..settings.arguments import is_storable
from ..version import __version__
from .access import current_author
from .drafts import MAX_REASON_LENGTH
from .tokens import make_token, require_secret_key

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = Path(__file__).parent / "static"
#: of a form with all settings; the app's own limit may be one of them, and too small
MAX_FORM_BYTES = 16 * 1024 * 1024

EXPIRED = (
    "This page was open for too long, or your session ended. Nothing was saved, and what you typed "
    "is still here: review it and send it again."
)
FOREIGN = (
    "This form does not belong to your session: the session ended, or the form came from another "
    "site. Nothing was saved. If you typed something here, go back with your browser: it is still "
    "in that page, to be copied into a new one. If this happens again, the app's workers may have "
    "different SECRET_KEYs."
)
NOTHING_TICKED = "Nothing is ticked: tick what you want to save, or discard all of it."
NO_REASON = "A reason is required: say in a few words why. Nothing is saved yet."

# In the session of who saved: what the next page must have, whichever host serves it.
_SAVED = "uwsgi_waffle.saved"

Render = Callable[..., str]
Answer = str | BaseResponse


class Frame:
    """The parts that every page shares.

    :param render: called with a template's name and its variables.
    :param layout: the template that every page extends.
    :param title: the site's name on every page; the app's own name if empty.
    :param brand: address of a small picture beside it, which the app's own policy must allow.
    :param require_reason: nothing is saved without a reason.
    """

    def __init__(
        self,
        render: Render,
        layout: str,
        *,
        title: str = "",
        brand: str = "",
        require_reason: bool = False,
    ) -> None:
        self._render = render
        self._layout = layout
        self._title = title
        self._brand = brand
        self._require_reason = require_reason

    def begin(self) -> None:
        """Check what every page needs, before it is made.

        :raises ConfigurationError: the app lacks ``SECRET_KEY`` or :class:`WaffleConf`.
        """
        require_secret_key(current_app.secret_key)
        self.shows_saved(state_of(current_app))
        try:
            request.max_content_length = MAX_FORM_BYTES
            request.max_form_memory_size = MAX_FORM_BYTES
        except AttributeError:  # Flask before 3.1 has only the app's own limit
            pass

    def asset(self, filename: str) -> Answer:
        """Return a style sheet or a script of the pages."""
        return send_from_directory(ASSETS, filename, max_age=3600)

    @staticmethod
    def remember(state: WaffleState) -> None:
        """Have the next pages of this user show the change that was just saved, on any host."""
        session[_SAVED] = state.token

    @staticmethod
    def shows_saved(state: WaffleState) -> bool:
        """Read what this user saved last, on any host; return false if the store can't be read."""
        return state.require(session.get(_SAVED))

    def problem_of_reason(self, reason: str) -> str:
        """Return why a change is not made for this reason, or an empty text."""
        if len(reason) > MAX_REASON_LENGTH:
            return (
                f"The reason has {len(reason)} characters, and may have {MAX_REASON_LENGTH}. "
                "Nothing is saved yet."
            )
        if not is_storable(reason):
            return "The reason has a character that can't be kept (NUL). Nothing is saved yet."
        return NO_REASON if self._require_reason and not reason else ""

    def page(self, template: str, code: int = 200, **context: Any) -> Response:
        """Return a page; every template gets the frame's variables too."""
        state = state_of(current_app)
        text = self._render(
            f"waffle_admin/{template}",
            layout=f"waffle_admin/{self._layout}",
            page_template=template,
            # So that no browser shows a new page with an old script.
            version=__version__,
            token=make_token(current_author()),
            page_title=self._title or current_app.name,
            brand=self._brand,
            require_reason=self._require_reason,
            status=state.engine.status(),
            no_reports="" if state.knows_hosts else NO_REPORTS,
            max_reason_length=MAX_REASON_LENGTH,
            current_revision=state.snapshot.revision,
            author=current_author(),
            **context,
        )
        return make_response(text, code)


def not_saved(exc: StoreError) -> str:
    if isinstance(exc, OutcomeUnknown):
        return (
            f"It is not known whether this was saved: {exc}. What you typed is still here: save it "
            "again, and nothing is changed twice."
        )
    return f"Nothing was saved, because the store fails: {exc}. What you typed is still here."
