"""The commands that carry a whole store: backup, restore, copy."""

from __future__ import annotations

import contextlib
import os
import secrets as random
from pathlib import Path
from typing import BinaryIO

import click

from .. import operations
from ..app_state import WaffleState
from ..masking import MASK, counted
from .base import (
    after_change,
    ask,
    committing,
    group,
    opened,
    print_differences,
    secrets_option,
    warn_unannounced,
    with_state,
    yes_option,
)
from .input import read
from .tables import json_text, print_document, visible


@group.command(short_help="Write settings and history to a file.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--secrets", is_flag=True, help="Keep the values of secrets, too.")
@with_state
def backup(state: WaffleState, file: str, secrets: bool) -> None:
    """Write settings, their revision and their whole history to FILE, as JSON.

    FILE is for its owner only (mode 0600) and replaced as a whole; a dash is standard output.
    Without --secrets, the values of secrets are left out, and those of settings that are no longer
    declared.
    """
    if not file:
        raise click.UsageError("FILE is empty: name a file, or - for standard output")
    held = operations.back_up(state, state.app.name, secrets=secrets)
    text = json_text(held) + "\n"
    if file == "-":
        print_document(text)
    else:
        _write(Path(file), text.encode())
    counts = _held(len(held.settings), len(held.history))
    click.echo(f"{counts}, at revision {held.revision}", err=True)
    masked = sum(raw == MASK for raw in held.settings.values())
    if masked:
        click.echo(f"left out, kept by --secrets: {counted(masked, 'value')}", err=True)


@group.command(short_help="Replace settings and history by a backup's.")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@secrets_option
@with_state
def restore(
    state: WaffleState, file: BinaryIO, yes: bool, dry_run: bool, show_secrets: bool
) -> None:
    """Replace settings, revision and history by those of a backup; asks first.

    Every worker of every host serves what was restored. What was changed since the backup is gone,
    from the history too: make another backup first. A secret that the backup leaves out stays as
    it is.
    """
    held = operations.read_backup(read(file))
    seen = state.snapshot.revision
    dump = operations.plan_restore(state, held)
    raws = operations.differences_of(state, dump)
    print_differences(operations.preview(state, raws, show_secrets=show_secrets))
    moves = f"revision {seen} → {dump.revision} (of {held.at.astimezone():%Y-%m-%d %H:%M})"
    click.echo(moves)
    if dry_run:
        click.echo("not written (--dry-run)")
        return
    if not yes:
        ask("Replace the settings and their history?")
    with committing():
        state.replace(dump, expected_revision=seen)
    with after_change():
        click.echo("restored")
        warn_unannounced(state, dump.revision)


@group.command(short_help="Copy settings and history to another store.")
@click.option("--to", "to", required=True, metavar="URL", help="The store to copy to.")
@click.option("--from", "from_", metavar="URL", help="Another source than the app's own store.")
@click.option("--overwrite", is_flag=True, help="Replace what the target holds; asks first.")
@yes_option
@with_state
def copy(state: WaffleState, to: str, from_: str | None, overwrite: bool, yes: bool) -> None:
    """Copy settings, revision and history from the app's store to another, of any kind.

    URL is as in WAFFLE_STORE_URL. The target must be empty, unless --overwrite is given. Secrets
    are copied. Afterwards, put the URL into WAFFLE_STORE_URL and reload every worker.
    """
    with contextlib.ExitStack() as stack:
        source = state.store
        if from_ is not None:
            source = stack.enter_context(opened(state, from_, "--from"))
        target = stack.enter_context(opened(state, to, "--to"))
        if overwrite and not yes:
            ask(f"Replace what {target!r} holds?")
        with committing():
            dump = operations.copy(source, target, overwrite=overwrite)
        held = _held(len(dump.raws), len(dump.history))
        with after_change():
            click.echo(f"{held}, at revision {dump.revision}, are in {visible(repr(target))}")
        newest = source.read_since(0, "").revision
    if newest != dump.revision:
        raise click.ClickException(
            f"the source was changed while it was copied, to revision {newest}: repeat it with "
            "--overwrite while nothing changes settings"
        )


def _held(settings: int, entries: int) -> str:
    history = counted(entries, "entry", "entries")
    return f"{counted(settings, 'setting')} and {history} of history"


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all.

    A pipe or a device is written into, and what a link names is replaced, not the link.
    """
    if path.exists() and not path.is_file():
        try:
            path.write_bytes(content)
        except OSError as exc:
            raise click.ClickException(f"{path} can't be written: {exc.strerror}") from exc
        return
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.{random.token_hex(4)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        descriptor = os.open(beside, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink()
            raise
    except OSError as exc:
        raise click.ClickException(f"{path} can't be written: {exc.strerror}") from exc
