"""The command that opens the settings in an editor: edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from .. import operations
from ..app_state import WaffleState
from ..errors import WaffleError
from ..masking import MASK
from ..operations import SettingInfo
from ..snapshot import Snapshot
from . import documents, streams
from .base import (
    CONFLICT,
    UNDECLARED,
    NotEmpty,
    change,
    change_options,
    complete_names,
    group,
    is_interactive,
    lines,
    with_state,
)
from .tables import json_text, visible

_HEAD = """\
# Change values, save, and close the editor: all is changed at once, or refused as a whole.
# A line that you remove leaves its setting as it is.
"""


@group.command(
    short_help="Change settings in your editor.",
    epilog="The editor is that of $VISUAL or $EDITOR, in which the settings are a TOML document.",
)
@click.argument(
    "names", metavar="[NAME...]", nargs=-1, type=NotEmpty(), shell_complete=complete_names()
)
@change_options
@with_state
def edit(
    state: WaffleState, names: tuple[str, ...], expect_revision: int | None, **details: Any
) -> None:
    """Change settings in your editor, all of them or those named, as one change.

    What is saved is checked; if it is refused, you can edit it again. Secrets are masked, and a
    masked one stays as it is.
    """
    state.declarations.require(names)
    if not state.declarations:
        raise click.ClickException(UNDECLARED)
    start = state.snapshot
    infos = operations.describe(state, show_secrets=details["show_secrets"])
    values = operations.export(state, show_secrets=details["show_secrets"])
    text = _document([info for info in infos if not names or info.name in names], values)
    before = documents.load(text.encode(), "toml")
    while True:
        try:
            edited = click.edit(text, extension=".toml")
        except (OSError, UnicodeError) as exc:
            raise click.ClickException(
                f"what the editor saved can't be read ({exc}); nothing was written"
            ) from exc
        if edited is None:
            click.echo(f"nothing to change, the settings are at revision {start.revision}")
            return
        text = edited
        try:
            raws = _plan(state, start, before, documents.load(text.encode(), "toml"))
            # Checked above: what someone else changed since the editor was opened stays.
            expected = state.snapshot.revision if expect_revision is None else expect_revision
            change(state, raws, expect_revision=expected, **details)
            return
        except WaffleError as exc:
            if not is_interactive():
                raise
            click.echo(f"refused: {lines(str(exc))}", err=True)
            if not click.confirm("Edit it again?", default=True, err=True):
                raise


class _ChangedMeanwhile(streams.Status):
    exit_code = CONFLICT


def _plan(
    state: WaffleState, start: Snapshot, before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, str | None]:
    """Return the change that a document asks for, of what it says otherwise than before."""
    given = {
        name: value
        for name, value in after.items()
        if name not in before or before[name] != value or type(before[name]) is not type(value)
    }
    raws = operations.plan_import(state, given)
    stored = state.refresh().stored
    changed = [name for name in raws if stored.get(name) != start.stored.get(name)]
    if changed:
        raise _ChangedMeanwhile(
            f"someone else changed {', '.join(changed)} while you edited; nothing was written"
        )
    return raws


def _document(infos: Iterable[SettingInfo], values: Mapping[str, Any]) -> str:
    parts = [_HEAD]
    group_: str | None = None
    for info in infos:
        if info.group != group_:
            group_ = info.group
            parts.append(f"\n# --- {visible(group_ or 'others')} ---\n")
        parts.append("\n" + "".join(f"# {line}\n" for line in _about(info)))
        value = values[info.name]
        if value is None:
            parts.append(f"# {json_text(info.name)} is null\n")
        elif documents.holds_null(value):
            parts.append("# it holds null, which TOML can't express: use `flask waffle set`\n")
        else:
            parts.append(documents.toml_line(info.name, value))
    return "".join(parts)


def _about(info: SettingInfo) -> list[str]:
    default = MASK if info.default == MASK and info.secret else json_text(info.default, indent=0)
    where = " (from app.config)" if info.default_from == "config" else ""
    parts = [info.type, f"default {default}{where}"]
    if info.pinned:
        parts.append("pinned: no change of it is taken")
    if info.min is not None:
        parts.append(f"at least {json_text(info.min, indent=0)}")
    if info.max is not None:
        parts.append(f"at most {json_text(info.max, indent=0)}")
    if info.choices is not None:
        shown = ", ".join(json_text(choice, indent=0) for choice in info.choices)
        parts.append(f"one of {shown}")
    about = [visible(info.desc), visible("; ".join(parts))]
    if info.fault is not None:
        about.append(f"what is stored does not fit: {visible(info.fault)}")
    return about
