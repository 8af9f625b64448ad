"""The admin page as a view of Flask-Admin; imported only by apps that use that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Blueprint

from ..errors import ConfigurationError
from .access import Author, Authorize, Guard
from .frame import TEMPLATES, Answer
from .headers import protect
from .tokens import require_extra, require_secret_key
from .views import Pages

try:
    from flask_admin import BaseView, expose
except ImportError as exc:
    raise ConfigurationError(
        "this view needs Flask-Admin: pip install Flask-Admin, or use waffle.admin_blueprint()"
    ) from exc

View = TypeVar("View", bound=Callable[..., Answer])

#: Flask-Admin's own pages have scripts inline, so it only keeps them out of frames
_POLICY = "frame-ancestors 'none'"


def _page(rule: str, *methods: str) -> Callable[[View], View]:
    return cast("Callable[[View], View]", expose(rule, methods=methods or ("GET",)))


class SettingsView(BaseView):  # type: ignore[misc]  # it has no types
    """The settings within Flask-Admin: ``admin.add_view(SettingsView(authorize=…))``.

    All requests are refused until ``authorize`` is given. A subclass may override
    ``is_accessible`` and ``inaccessible_callback`` too, as in any view of Flask-Admin: then both
    must let a request in.

    :param authorize: see :meth:`~uwsgi_waffle.WaffleConf.admin_blueprint`.
    :param author: likewise.
    :param require_reason: likewise.
    :param options: of Flask-Admin's ``BaseView``: ``category``, ``url``, ``menu_icon_value`` …
    :raises ConfigurationError: Flask-WTF is missing, or what is given can't be called.
    """

    def __init__(
        self,
        authorize: Authorize | None = None,
        *,
        author: Author | None = None,
        name: str = "Settings",
        endpoint: str = "waffle_settings",
        require_reason: bool = False,
        **options: Any,
    ) -> None:
        require_extra()
        self._access = Guard(authorize, author)
        self._pages = Pages(
            self.render, "flask_admin.html", title=name, require_reason=require_reason
        )
        super().__init__(name=name, endpoint=endpoint, **options)

    def create_blueprint(self, admin: Any) -> Any:
        """Return Flask-Admin's blueprint, which finds our templates and sends our headers."""
        blueprint = super().create_blueprint(admin)
        templates = Blueprint("templates", __name__, template_folder=str(TEMPLATES))
        blueprint.register_blueprint(templates)
        blueprint.record(lambda setup: require_secret_key(setup.app.secret_key))
        blueprint.after_request(lambda response: protect(response, policy=_POLICY))
        return blueprint

    def is_accessible(self) -> bool:
        """Return whether the menu shows the view."""
        return self._access.allows()

    def _handle_view(self, name: str, **kwargs: Any) -> Any:
        # First ours, because it may have a response of its own, such as a redirect to a login.
        answer: Any = self._access.admit()
        if answer is None:
            answer = super()._handle_view(name, **kwargs)
        if answer is None:
            self._pages.begin()
        return answer

    @_page("/")
    def index(self) -> Answer:
        return self._pages.index()

    @_page("/edit", "POST")
    def edit(self) -> Answer:
        return self._pages.edit()

    @_page("/preview", "POST")
    def preview(self) -> Answer:
        return self._pages.preview()

    @_page("/save", "POST")
    def save(self) -> Answer:
        return self._pages.save()

    @_page("/history")
    def history(self) -> Answer:
        return self._pages.history()

    @_page("/rollback", "GET", "POST")
    def rollback(self) -> Answer:
        return self._pages.rollback()

    @_page("/workers")
    def workers(self) -> Answer:
        return self._pages.workers()

    @_page("/reach")
    def reach(self) -> Answer:
        return self._pages.reach()

    @_page("/news")
    def news(self) -> Answer:
        return self._pages.news()

    @_page("/switch", "POST")
    def switch(self) -> Answer:
        return self._pages.switch()

    @_page("/assets/<path:filename>")
    def asset(self, filename: str) -> Answer:
        return self._pages.asset(filename)
