"""How Debian's package starts uWSGI: one file for all apps is read before each app's own.

Source: /usr/share/uwsgi/init/specific_daemon of uwsgi 2.0.21-5.1; the unit uwsgi-app@.service,
which takes the file from apps-available, reads no other.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_DEFAULTS = "usr/share/uwsgi/conf/default.ini"


def read_before(file: str, root: Path = Path("/")) -> str | None:
    """Return the file that is read before an app's in ``/etc/uwsgi/apps-enabled``, if any.

    :param root: under which all of it lies.
    """
    # A link to apps-available keeps its own folder.
    folder = Path(file).absolute().parent
    if folder.parent != root / "etc/uwsgi" or not folder.name.endswith("-enabled"):
        return None
    defaults = root / _DEFAULTS
    with suppress(OSError):
        text = (root / "etc/default/uwsgi").read_text(encoding="utf-8", errors="replace")
        named = re.search(r"""^\s*INHERITED_CONFIG=["']?([^"'\s]+)""", text, re.MULTILINE)
        if named is not None:
            defaults = root / named[1].lstrip("/")
    return str(defaults) if defaults.is_file() else None
