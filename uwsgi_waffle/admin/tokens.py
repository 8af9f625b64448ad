"""Tokens that keep forms of other sites out, and show whether a value is the one that was shown."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from flask import current_app, request

from ..errors import ConfigurationError

_EXTRA = (
    "the admin page needs Flask-WTF, which keeps forms of other sites out: "
    "pip install 'uwsgi-waffle[admin]'"
)


_NO_LIMIT_S = float("inf")


class Token(NamedTuple):
    """The hidden fields that every form carries.

    :ivar made_for: shows that this app handed the form to this person; it lives longer than the
        session.
    """

    name: str
    value: str
    made_for: str


def require_extra() -> None:
    """Check that Flask-WTF is there.

    :raises ConfigurationError: it is not; names what to install.
    """
    try:
        import flask_wtf  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError(_EXTRA) from exc


def require_secret_key(secret_key: object) -> None:
    """Check that the app can sign what it hands out.

    :raises ConfigurationError: it has no ``SECRET_KEY``.
    """
    if not secret_key:
        raise ConfigurationError(
            "the admin page needs app.config['SECRET_KEY'], the same in every worker, before its "
            "blueprint is registered: "
            "make one with `python -c 'import secrets; print(secrets.token_hex())'`"
        )


def make_token(author: str | None) -> Token:
    """Return the token for the forms of this response.

    :param author: the name of the person who gets it, if there is one.
    """
    from flask_wtf.csrf import generate_csrf

    name = current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")
    return Token(name, generate_csrf(), sign("made for", author or ""))


def is_token_valid() -> bool:
    """Return whether the form of this request is one of ours, as Flask-WTF is set up to check."""
    from flask_wtf import FlaskForm

    return bool(FlaskForm().validate())


def was_ours(author: str | None) -> bool:
    """Return whether the form of this request is of this session, though it is too old.

    :param author: the name of the person who sent it, if there is one.

    What was typed is kept only then: else another site could fill in a form, whose fresh token
    would make the rest. When the session is gone, its token proves nothing: a form is ours as well
    if it was handed to the same person, and the browser says that it came from this very origin,
    which no other site can make it say.
    """
    from flask_wtf.csrf import validate_csrf

    name = current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")
    try:
        validate_csrf(request.form.get(name), time_limit=_NO_LIMIT_S)
    except ValueError:  # WTForms' own error is one
        is_own = is_signed(request.form.get("made_for", ""), "made for", author or "")
        return is_own and request.headers.get("Sec-Fetch-Site") == "same-origin"
    return True


def sign(purpose: str, *parts: str) -> str:
    """Return a text that only this app can make, and that shows nothing about the parts."""
    key = current_app.secret_key
    key = key.encode() if isinstance(key, str) else key or b""
    message = "\0".join([f"uwsgi_waffle.admin.{purpose}", *(str(len(p)) for p in parts), *parts])
    return hmac.new(key, message.encode(errors="surrogatepass"), "sha256").hexdigest()[:32]


def is_signed(signature: str, purpose: str, *parts: str) -> bool:
    """Return whether :func:`sign` made a signature of the same parts."""
    return hmac.compare_digest(signature.encode(), sign(purpose, *parts).encode())
