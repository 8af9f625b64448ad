"""The admin page as a blueprint of its own."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from werkzeug.wrappers import Response as BaseResponse

from .access import Author, Authorize, Guard
from .frame import TEMPLATES
from .headers import protect
from .tokens import require_extra, require_secret_key
from .views import Pages

#: nothing from elsewhere, nothing inline
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def make_blueprint(
    authorize: Authorize | None = None,
    *,
    author: Author | None = None,
    name: str = "waffle_admin",
    title: str = "",
    brand: str = "",
    require_reason: bool = False,
) -> Blueprint:
    """Return the admin page as a blueprint, for any app that has a ``WaffleConf``.

    :param authorize: see :meth:`~uwsgi_waffle.WaffleConf.admin_blueprint`.
    :param author: likewise.
    :param name: the blueprint's name, before the dot of its endpoints.
    :param title: see :meth:`~uwsgi_waffle.WaffleConf.admin_blueprint`.
    :param brand: likewise.
    :param require_reason: likewise.
    :raises ConfigurationError: Flask-WTF is missing, or what is given can't be called.
    """
    require_extra()
    guard_ = Guard(authorize, author)
    pages = Pages(
        render_template, "layout.html", title=title, brand=brand, require_reason=require_reason
    )
    blueprint = Blueprint(name, __name__, template_folder=str(TEMPLATES))

    # At the start, and not when the page is first opened.
    blueprint.record(lambda setup: require_secret_key(setup.app.secret_key))

    @blueprint.before_request
    def guard() -> BaseResponse | None:
        answer = guard_.admit()
        if answer is None:
            pages.begin()
        return answer

    @blueprint.after_request
    def harden(response: Response) -> Response:
        protect(response, policy=POLICY)
        return response

    for rule, view, methods in (
        ("/", pages.index, ["GET"]),
        ("/edit", pages.edit, ["POST"]),
        ("/preview", pages.preview, ["POST"]),
        ("/save", pages.save, ["POST"]),
        ("/history", pages.history, ["GET"]),
        ("/rollback", pages.rollback, ["GET", "POST"]),
        ("/workers", pages.workers, ["GET"]),
        ("/reach", pages.reach, ["GET"]),
        ("/news", pages.news, ["GET"]),
        ("/switch", pages.switch, ["POST"]),
        ("/assets/<path:filename>", pages.asset, ["GET"]),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=methods)
    return blueprint
