"""The commands that change settings: set, reset, rollback, prune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .. import operations
from ..app_state import WaffleState
from ..errors import RevisionConflict
from .base import (
    NotEmpty,
    Whole,
    change,
    change_options,
    complete_names,
    group,
    wait_option,
    with_state,
    yes_option,
)
from .input import Input, is_elsewhere
from .tables import visible


@group.command("set")
@click.argument(
    "assignments",
    metavar="NAME=VALUE...",
    nargs=-1,
    required=True,
    shell_complete=complete_names("="),
)
@click.option("--json", "as_json", is_flag=True, help="Read every VALUE as JSON.")
@wait_option
@change_options
@with_state
def set_(state: WaffleState, assignments: tuple[str, ...], as_json: bool, **details: Any) -> None:
    """Change settings, all of them or none, as one change.

    A VALUE is read by the setting's type: 5000, true or yes, 30m, 2026-01-31, a string, or JSON
    such as '["a", "b"]'. "null" is no value, where the setting allows that.

    \b
    NAME          asks for the value without showing it, or reads standard input
    NAME=-        reads standard input
    NAME=@FILE    reads a file; NAME=@@TEXT is a string that begins with @
    """
    given: dict[str, str | None] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not name:
            raise click.UsageError(f"{visible(assignment)!r} names no setting: write NAME=VALUE")
        if name in given:
            raise click.UsageError(f"{name} is given twice")
        given[name] = text if sign else None
    if any(map(is_elsewhere, given.values())):
        # Before anything is read or asked for.
        state.declarations.require(given)
    texts = Input().texts(given)
    if as_json:
        raws = operations.parse_json(state, texts)
    else:
        raws = dict(state.declarations.encode(state.declarations.parse(texts)))
    change(state, raws, **details)


@group.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, type=NotEmpty(), shell_complete=complete_names()
)
@click.option("--all", "everything", is_flag=True, help="Every setting that is stored; asks first.")
@yes_option
@wait_option
@change_options
@with_state
def reset(
    state: WaffleState, names: tuple[str, ...], everything: bool, yes: bool, **details: Any
) -> None:
    """Put settings back to their declared defaults.

    With --all, settings that another app declares stay, if it shares the store: name them to
    reset them.
    """
    if bool(names) == everything:
        raise click.UsageError("give either names of settings, or --all")
    if everything:
        stored = state.snapshot.stored
        ours = [
            name
            for name, declaration in state.declarations.items()
            if name in stored and not declaration.pinned
        ]
        left = operations.kept_for_others(state, ours)
        names = tuple(name for name in ours if name not in left)
        _print_left(left)
    state.declarations.require(names)
    question = "Reset all settings?" if everything and not yes else None
    change(state, dict.fromkeys(names), question=question, **details)


@group.command(short_help="Restore settings as they were at a revision.")
@click.argument("revision", type=Whole(min=0))
@click.argument(
    "names", metavar="[NAME...]", nargs=-1, type=NotEmpty(), shell_complete=complete_names()
)
@yes_option
@wait_option
@change_options
@with_state
def rollback(
    state: WaffleState,
    revision: int,
    names: tuple[str, ...],
    yes: bool,
    expect_revision: int | None,
    reason: str | None,
    **details: Any,
) -> None:
    """Restore all settings, or those named, to what they were at REVISION.

    This is a new change, which can be rolled back in turn. Revision 0 is before the first
    change; going back to it asks first. Settings that are no longer declared, or whose old value
    no longer fits, are refused: to leave them out, name the others.
    """
    state.declarations.require(names)
    plan = operations.plan_rollback(state, revision, names=names or None)
    if expect_revision not in (None, plan.revision):
        assert expect_revision is not None
        raise RevisionConflict(expect_revision, plan.revision)
    if plan.by_hand:
        click.echo(visible(operations.by_hand_notice(plan.by_hand)), err=True)
    _print_left(plan.left)
    # What is shown is what is written: a change that someone makes in between is a conflict.
    change(
        state,
        plan.raws,
        expect_revision=plan.revision,
        reason=reason or f"rollback to revision {revision}",
        question="Undo every change?" if revision == 0 and not names and not yes else None,
        **details,
    )


@group.command(short_help="Remove settings that are no longer declared.")
@yes_option
@wait_option
@change_options
@with_state
def prune(state: WaffleState, yes: bool, **details: Any) -> None:
    """Remove what is stored of settings that are no longer declared; asks first.

    The history keeps what was removed. If another app shares the store and was seen within seven
    days, the settings that it declares stay.
    """
    question = None if yes else "Remove what is stored of these settings?"
    others = [name for name in state.snapshot.stored if name not in state.declarations]
    _print_left(operations.kept_for_others(state, others))
    change(state, dict.fromkeys(operations.undeclared(state)), question=question, **details)


def _print_left(left: Mapping[str, str]) -> None:
    if left:
        click.echo(visible(operations.left_notice(left)), err=True)
