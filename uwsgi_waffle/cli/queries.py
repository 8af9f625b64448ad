"""The commands that only read: list, get, history, watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..operations import HistoryItem, SettingInfo
from ..snapshot import MASK, Snapshot
from .base import (
    complete_names,
    group,
    json_option,
    print_json,
    secrets_option,
    with_state,
)
from .tables import table, visible


@group.command("list")
@json_option
@secrets_option
@with_state
def list_(state: WaffleState, as_json: bool, show_secrets: bool) -> None:
    """List every setting: value, default, type, and where its value comes from.

    FROM is "default", "stored", or "fault": what is stored does not fit, and the default is
    served.
    """
    infos = operations.describe(state, show_secrets=show_secrets)
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
    click.echo(table(("NAME", "VALUE", "DEFAULT", "TYPE", "FROM"), rows, flexible=(1, 2, 3)))
    for info in infos:
        if info.fault is not None:
            click.echo(f"{info.name}: what is stored does not fit: {visible(info.fault)}", err=True)
    return None


@group.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_names()
)
@json_option
@secrets_option
@with_state
def get(state: WaffleState, names: tuple[str, ...], as_json: bool, show_secrets: bool) -> None:
    """Print the value of a setting, or NAME=VALUE of several."""
    state.declarations.require(names)
    infos = {info.name: info for info in operations.describe(state, show_secrets=show_secrets)}
    values = {name: msgspec.to_builtins(infos[name].value) for name in names}
    if as_json:
        return print_json(values)
    for name, value in values.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        click.echo(text if len(values) == 1 else f"{name}={text}")
    return None


@group.command()
@click.argument("name", required=False, shell_complete=complete_names())
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@json_option
@secrets_option
@with_state
def history(
    state: WaffleState, name: str | None, limit: int, as_json: bool, show_secrets: bool
) -> None:
    """Show the newest changes, of all settings or of NAME: who, when, old, new, why."""
    items = operations.history(state, name=name, limit=limit, show_secrets=show_secrets)
    if name is not None and not items:
        state.declarations.require([name])
    if as_json:
        return print_json(items)
    header = ["REV", "WHEN", "WHO", "NAME", "OLD", "NEW", "REASON"]
    rows = [
        [
            str(item.revision),
            f"{item.at.astimezone():%Y-%m-%d %H:%M}",
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
    click.echo(table(header, rows, flexible=range(4, len(header))))
    return None


@group.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@secrets_option
@with_state
def watch(state: WaffleState, as_json: bool, show_secrets: bool) -> None:
    """Print changes as they happen, until Ctrl-C.

    Sees them as a worker's watcher does: through the watch file, Redis, and the resync.
    """
    start = state.snapshot
    state.engine.start()
    try:
        click.echo(f"watching from revision {start.revision}; Ctrl-C ends", err=True)
        for item in _changes(state, start, show_secrets):
            if as_json:
                click.echo(msgspec.json.encode(item))
            else:
                click.echo(_line(item))
    except KeyboardInterrupt:
        click.echo(err=True)
    finally:
        state.engine.stop()


def _changes(state: WaffleState, last: Snapshot, show_secrets: bool) -> Iterator[HistoryItem]:
    """Return every change that follows a snapshot; runs until it is interrupted."""
    pause = threading.Event()
    failing = False
    while True:
        pause.wait(state.options.poll_interval_s)
        snapshot = state.engine.manager.snapshot
        if (snapshot.epoch, snapshot.revision) == (last.epoch, last.revision):
            continue
        if snapshot.epoch != last.epoch or snapshot.revision < last.revision:
            click.echo(f"the store was replaced, it is at revision {snapshot.revision}", err=True)
            last = snapshot
            continue
        try:
            # All that was committed, also what a later change has undone already.
            items = operations.history_since(state, last.revision, show_secrets=show_secrets)
        except StoreError as exc:
            if not failing:
                click.echo(f"the history can't be read, trying again: {exc}", err=True)
            failing = True
            continue
        failing = False
        last = snapshot
        yield from (item for item in items if item.revision <= snapshot.revision)


def _line(item: HistoryItem) -> str:
    when = f"{item.at.astimezone():%H:%M:%S}"
    author = f" by {item.author}" if item.author else ""
    reason = f" ({item.reason})" if item.reason else ""
    return visible(
        f"{when} revision {item.revision}{author}: {item.name}: {item.old} → {item.new}{reason}"
    )


def _json_text(info: SettingInfo, value: Any, show_secrets: bool) -> str:
    if info.secret and not show_secrets:
        return MASK
    return msgspec.json.encode(value).decode()
