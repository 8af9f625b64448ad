"""The commands that show settings and their history: list, get, describe, history."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import click
import msgspec

from .. import operations
from ..app_state import WaffleState
from ..errors import UnknownSettingError
from ..masking import MASK, counted
from ..operations import HistoryItem, SettingInfo
from ..settings.spelling import spelled
from .base import (
    UNDECLARED,
    NotEmpty,
    Whole,
    complete_names,
    group,
    json_option,
    print_json,
    secrets_option,
    with_state,
)
from .tables import json_text, safe, table, visible

_COLORS = {"fault": "red", "stored": "cyan", "override": "yellow", "pinned": "magenta"}
_UNCHANGED = ("default", "config", "pinned")
_DESCRIBED_CHANGES = 5


@group.command("list", short_help="List settings, and where their values come from.")
@click.argument("patterns", metavar="[PATTERN...]", nargs=-1, shell_complete=complete_names())
@click.option("--changed", is_flag=True, help="Only what is not at its default.")
@click.option("--group", "group_", metavar="NAME", help="Only the settings of this group.")
@json_option
@secrets_option
@with_state
def list_(
    state: WaffleState,
    patterns: tuple[str, ...],
    changed: bool,
    group_: str | None,
    as_json: bool,
    show_secrets: bool,
) -> None:
    """List settings: value, default, type, and where the value comes from.

    A PATTERN is a part of a name, or a name with * and ? as in a shell; case does not matter.

    FROM is "default"; "config", a default that app.config had, from a file or the environment;
    "pinned", such a value that no change replaces; "stored"; or "fault": what is stored does not
    fit, and the default is served.
    """
    groups = {info.group for info in state.declarations.values()}
    if group_ is not None and group_ not in groups:
        known = ", ".join(sorted(filter(None, groups))) or "none"
        raise click.UsageError(f"there is no group {group_!r}; groups: {known}")
    infos = [
        info
        for info in operations.describe(state, show_secrets=show_secrets)
        if (not patterns or any(_matches(info.name, pattern) for pattern in patterns))
        and (not changed or info.origin not in _UNCHANGED)
        and (group_ is None or info.group == group_)
    ]
    if as_json:
        return print_json(infos)
    rows = [
        (
            info.name,
            _json_text(info, info.value, show_secrets),
            _json_text(info, info.default, show_secrets),
            info.type,
            info.origin,
        )
        for info in infos
    ]
    header = ("NAME", "VALUE", "DEFAULT", "TYPE", "FROM")
    colors = [_COLORS.get(info.origin) for info in infos]
    click.echo(table(header, rows, flexible=(1, 2, 3), colors=colors))
    for info in infos:
        if info.fault is not None:
            fault = f"{info.name}: what is stored does not fit: {info.fault}"
            click.echo(visible(fault), err=True)
    if not state.declarations:
        click.echo(UNDECLARED, err=True)
    elif not infos:
        asked = patterns or group_ is not None
        click.echo("no setting matches" if asked else "every setting is at its default", err=True)
    return None


def _require(state: WaffleState, names: Iterable[str]) -> None:
    """As a change does it; but nothing would have been written."""
    try:
        state.declarations.require(names)
    except UnknownSettingError as exc:
        raise click.ClickException("\n".join(map(visible, exc.lines()))) from exc


@group.command()
@click.argument(
    "names",
    metavar="NAME...",
    nargs=-1,
    required=True,
    type=NotEmpty(),
    shell_complete=complete_names(),
)
@json_option
@secrets_option
@with_state
def get(state: WaffleState, names: tuple[str, ...], as_json: bool, show_secrets: bool) -> None:
    """Print the value of a setting, or NAME=VALUE of several.

    The value of a secret is printed only with --show-secrets.
    """
    _require(state, names)
    secret = [name for name in names if state.declarations[name].secret]
    if secret and not show_secrets:
        raise click.ClickException(f"{', '.join(secret)}: secret, printed only by --show-secrets")
    infos = {info.name: info for info in operations.describe(state, show_secrets=True)}
    values = {name: msgspec.to_builtins(infos[name].value) for name in names}
    if as_json:
        return print_json(values)
    for name, value in values.items():
        text = safe(value) if isinstance(value, str) else json_text(value, indent=0)
        # As it is: without a terminal, click would take escape sequences out.
        click.echo(text if len(values) == 1 else f"{safe(name)}={text}", color=True)
    return None


@group.command(short_help="Show all about one setting.")
@click.argument("name", type=NotEmpty(), shell_complete=complete_names())
@json_option
@secrets_option
@with_state
def describe(state: WaffleState, name: str, as_json: bool, show_secrets: bool) -> None:
    """Show all about a setting: description, type, bounds, default, value, last changes."""
    _require(state, [name])
    infos = operations.describe(state, show_secrets=show_secrets)
    (info,) = [info for info in infos if info.name == name]
    items = operations.history(
        state, name=name, limit=_DESCRIBED_CHANGES, show_secrets=show_secrets
    )
    if as_json:
        return print_json({**msgspec.to_builtins(info), "history": items})
    click.echo(click.style(visible(info.name), bold=True))
    click.echo(visible(info.desc))
    for label, text in _details(info, items, show_secrets):
        click.echo(f"  {label + ':':<9} {visible(text)}")
    if info.fault is not None:
        click.echo(f"what is stored does not fit: {visible(info.fault)}", err=True)
    if items:
        click.echo()
        _print_history(items, with_name=False)
    return None


def _details(
    info: SettingInfo, items: Sequence[HistoryItem], show_secrets: bool
) -> list[tuple[str, str]]:
    def text(value: object) -> str:
        return json_text(value, indent=0)

    details = [("group", info.group or ""), ("type", info.type)]
    if info.secret:
        details.append(("secret", "yes"))
    bounds = {"least": info.min, "most": info.max}
    details += [(label, text(bound)) for label, bound in bounds.items() if bound is not None]
    if info.choices is not None:
        details.append(("choices", ", ".join(map(text, info.choices))))
    where = " (from app.config)" if info.default_from == "config" else ""
    details.append(("default", f"{_json_text(info, info.default, show_secrets)}{where}"))
    if info.pinned:
        details.append(("pinned", "yes: no change of it is taken"))
    details.append(("value", f"{_json_text(info, info.value, show_secrets)} ({info.origin})"))
    if items:
        last = items[0]
        by = f" by {last.author}" if last.author else ""
        why = f": {last.reason}" if last.reason else ""
        details.append(("changed", f"{_when(last)}{by}, revision {last.revision}{why}"))
    return [(label, shown) for label, shown in details if shown]


def _since(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | None:
    """Return the point in time that a date, a date and time, or a duration ago means."""
    if text is None:
        return None
    try:
        ago = msgspec.convert(spelled(text, timedelta), timedelta, strict=False)
        return datetime.now(timezone.utc) - ago
    except (ValueError, msgspec.MsgspecError, OverflowError):
        pass
    try:
        # Without a zone, it is the local time, as the table has it.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r}: write a date, 2026-01-31 or 2026-01-31T14:30, or 30m, 8h, 1d", ctx, param
        ) from None


@group.command(short_help="Show who changed what, when and why.")
@click.argument("name", required=False, type=NotEmpty(), shell_complete=complete_names())
@click.option(
    "--name",
    "named",
    metavar="NAME",
    type=NotEmpty(),
    help="Only of this setting, the same as NAME.",
)
@click.option("--author", metavar="NAME", help="Only what NAME changed.")
@click.option(
    "--since", callback=_since, metavar="TIME", help="Only since then: a date, or 30m, 8h, 1d ago."
)
@click.option("--revision", type=Whole(min=1), metavar="N", help="Only this change.")
@click.option(
    "--limit",
    type=Whole(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="At most so many entries.",
)
@json_option
@secrets_option
@with_state
def history(
    state: WaffleState,
    name: str | None,
    named: str | None,
    author: str | None,
    since: datetime | None,
    revision: int | None,
    limit: int,
    as_json: bool,
    show_secrets: bool,
) -> None:
    """Show the newest changes, of all settings or of NAME: who, when, old, new, why."""
    if name is not None and named not in (None, name):
        raise click.UsageError("two names of settings are given")
    name = name or named
    items = operations.history(
        state,
        name=name,
        author=author,
        since=since,
        revision=revision,
        limit=limit,
        show_secrets=show_secrets,
    )
    if name is not None and not items:
        _require(state, [name])
    if as_json:
        print_json(items)
    else:
        _print_history(items, with_name=True)
    if items.damaged:
        click.echo(f"left out, because damaged: {counted(items.damaged, 'row')}", err=True)


def _print_history(items: Sequence[HistoryItem], *, with_name: bool) -> None:
    header = ["REV", "WHEN", "WHO", "NAME", "OLD", "NEW", "REASON"]
    rows = [
        [
            str(item.revision),
            _when(item),
            item.author or "",
            item.name,
            item.old,
            item.new,
            item.reason or "",
        ]
        for item in items
    ]
    if not any(item.reason for item in items):
        header, rows = header[:-1], [row[:-1] for row in rows]
    if not with_name:
        header, rows = header[:3] + header[4:], [row[:3] + row[4:] for row in rows]
    click.echo(table(header, rows, flexible=range(header.index("OLD"), len(header))))


def _when(item: HistoryItem) -> str:
    return f"{item.at.astimezone():%Y-%m-%d %H:%M}"


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if set("*?[") & set(pattern) else pattern in name


def _json_text(info: SettingInfo, value: Any, show_secrets: bool) -> str:
    if info.secret and not show_secrets:
        return MASK
    return json_text(value, indent=0)
