"""The command that prints changes as they happen: watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import click

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..operations import HistoryItem
from ..snapshot import Snapshot
from .base import group, lines, secrets_option, with_state
from .tables import json_text, print_document, visible


@group.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@secrets_option
@with_state
def watch(state: WaffleState, as_json: bool, show_secrets: bool) -> None:
    """Print changes as they happen, until Ctrl-C.

    It follows them as a worker does: by the watch file, the channel between hosts, and the resync.
    """
    start = state.snapshot
    state.engine.start()
    try:
        click.echo(f"watching from revision {start.revision}; Ctrl-C ends", err=True)
        for item in _changes(state, start, show_secrets):
            if as_json:
                print_document(json_text(item, indent=0) + "\n")
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
        is_another = last.epoch not in ("", snapshot.epoch)
        if is_another or snapshot.revision < last.revision:
            click.echo(f"the store was replaced, it is at revision {snapshot.revision}", err=True)
            last = snapshot
            continue
        try:
            # All that was committed, also what a later change has undone already.
            items = operations.history_since(state, last.revision, show_secrets=show_secrets)
        except StoreError as exc:
            if not failing:
                click.echo(f"the history can't be read, trying again: {lines(str(exc))}", err=True)
            failing = True
            continue
        failing = False
        last = snapshot
        yield from (item for item in items if item.revision <= snapshot.revision)


def _line(item: HistoryItem) -> str:
    when = f"{item.at.astimezone():%Y-%m-%d %H:%M:%S}"
    author = f" by {item.author}" if item.author else ""
    reason = f" ({item.reason})" if item.reason else ""
    return visible(
        f"{when} revision {item.revision}{author}: {item.name}: {item.old} → {item.new}{reason}"
    )
