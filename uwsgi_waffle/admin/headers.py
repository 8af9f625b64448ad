"""The headers that every page is sent with."""

from __future__ import annotations

from werkzeug.wrappers import Response as BaseResponse


def protect(response: BaseResponse, *, policy: str) -> BaseResponse:
    """Add the headers that keep a page out of caches and frames, unless the app set its own.

    :param policy: the Content-Security-Policy.
    """
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response
