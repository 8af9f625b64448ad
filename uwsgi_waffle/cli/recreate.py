"""The command for a store whose data is lost: recreate."""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

import click

from .. import operations
from ..app_state import WaffleState
from ..masking import counted
from ..stores import Dump
from .base import (
    after_change,
    ask,
    committing,
    group,
    lines,
    load_state,
    print_differences,
    said_once,
    secrets_option,
    warn_unannounced,
    yes_option,
)
from .input import read
from .tables import visible


class _Content(NamedTuple):
    """The content that the store is to have.

    :ivar dump: ``None`` if that is what it holds already.
    :ivar raws: mapping of setting name to raw text, in either case.
    :ivar place: where they come from, for people.
    """

    dump: Dump | None
    revision: int
    raws: dict[str, str]
    place: str


def _words(ctx: click.Context, param: click.Parameter, epochs: tuple[str, ...]) -> tuple[str, ...]:
    for word in epochs:
        if not re.fullmatch("[0-9a-f]{16}", word):
            raise click.BadParameter(f"{word!r}: write the 16 digits that the error shows")
    return epochs


@group.command(short_help="Make a store again whose data is lost.")
@click.argument("file", metavar="[FILE]", required=False, type=click.File("rb"))
@click.option("--last-known", is_flag=True, help="With the last known values of this host.")
@click.option("--empty", is_flag=True, help="With every setting at its default.")
@click.option("--as-it-is", is_flag=True, help="With what the store holds now, from elsewhere.")
@click.option(
    "--knows",
    "known",
    metavar="EPOCH",
    multiple=True,
    callback=_words,
    help="Also for hosts whose error names this epoch; may be repeated.",
)
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@secrets_option
@click.pass_context
def recreate(
    ctx: click.Context,
    file: BinaryIO | None,
    last_known: bool,
    empty: bool,
    as_it_is: bool,
    known: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    show_secrets: bool,
) -> None:
    """Make a store again whose data is lost, or accept the one in its place; asks first.

    When a store's data is lost, workers keep the values that they have, are INTERRUPTED, and make
    no empty store in its place. This command says what comes next for every worker of every host:
    the content of FILE, which "backup" wrote, or one of --last-known, --empty and --as-it-is.

    The last known values are those of this host, without history; secrets are in them only if
    WAFFLE_SNAPSHOT_SECRETS is set. Nothing is done while the store is the one that this host knows.
    """
    ctx.with_resource(said_once())
    state = load_state(ctx)
    loss = operations.find_loss(state)
    if loss is None:
        _say_nothing_is_lost(state, known, dry_run=dry_run)
        return
    click.echo(lines(str(loss.error)), err=True)
    if (file is not None) + last_known + empty + as_it_is != 1:
        raise click.UsageError(
            "say what the store is to hold: FILE, --last-known, --empty or --as-it-is"
        )
    content = _content(state, loss, file, last_known=last_known, empty=empty)
    dump = Dump(content.revision, "", content.raws, ())
    changed = operations.differences_of(state, dump)
    print_differences(operations.preview(state, changed, show_secrets=show_secrets))
    held = counted(len(content.raws), "setting")
    click.echo(f"{held} at revision {content.revision}, {visible(content.place)}")
    if dry_run:
        click.echo("not written (--dry-run)")
        return
    if not yes:
        ask("Have every worker of every host serve this?")
    with committing():
        state.recreate(content.dump, {*loss.epochs, *known}, revision=loss.revision)
    with after_change():
        click.echo("recreated")
        warn_unannounced(state, content.revision)


def _say_nothing_is_lost(state: WaffleState, known: tuple[str, ...], *, dry_run: bool) -> None:
    revision = state.snapshot.revision
    if known and state.snapshot.epoch and not dry_run:
        with committing():
            state.recreate(None, known, revision=revision)
        with after_change():
            click.echo(f"the store at revision {revision} also stands in for {', '.join(known)}")
    else:
        click.echo(
            f"nothing is lost: the store is at revision {revision}, and this host knows no other"
        )


def _content(
    state: WaffleState,
    loss: operations.Loss,
    file: BinaryIO | None,
    *,
    last_known: bool,
    empty: bool,
) -> _Content:
    if file is not None:
        held = operations.read_backup(read(file))
        made = operations.plan_restore(state, held)
        place = f"from the backup of {held.at.astimezone():%Y-%m-%d %H:%M}"
        return _Content(made, made.revision, made.raws, place)
    if last_known:
        kept = state.last_known()
        if kept is None:
            raise click.ClickException(
                f"this host has no last known values: there is no {state.last_known_file}"
            )
        made = operations.dump_of(kept)
        return _Content(made, made.revision, made.raws, f"from {kept.place}")
    if empty:
        return _Content(Dump(0, "", {}, ()), 0, {}, "every setting at its default")
    if loss.revision is None:
        raise click.ClickException("there is no store to take as it is: name what it is to hold")
    there = state.store.read_since(0, "")
    raws = {name: raw for name, raw in there.rows if raw is not None}
    return _Content(None, there.revision, raws, "as the store holds them now")
