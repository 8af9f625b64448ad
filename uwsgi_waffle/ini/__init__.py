"""The ini snippets of the package: where they are and what they say."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigurationError

#: Name of every snippet -> what it is for.
SNIPPETS = {
    "waffle": "what every app with uwsgi_waffle needs",
    "redis": "several hosts that announce changes to each other through Redis or PostgreSQL",
    "gevent": "gevent workers, patched before the app is loaded",
    "metrics": "revision and last read of every worker in uWSGI's stats server",
}


def snippet_path(name: str = "waffle") -> Path:
    """Return the absolute path of a snippet, to be included by an ini.

    :raises ConfigurationError: if there is no snippet of that name.
    """
    if name not in SNIPPETS:
        raise ConfigurationError(
            f"there is no snippet {name!r}: take one of {', '.join(sorted(SNIPPETS))}"
        )
    return Path(__file__).resolve().parent / f"{name}.ini"


def snippet_text(name: str = "waffle") -> str:
    """Return the text of a snippet.

    :raises ConfigurationError: if there is no snippet of that name.
    """
    return snippet_path(name).read_text(encoding="utf-8")
