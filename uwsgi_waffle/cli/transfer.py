"""The commands that write settings to a document and read them from one: export, import."""

from __future__ import annotations

from typing import Any, BinaryIO

import click

from .. import operations
from ..app_state import WaffleState
from ..masking import MASK
from . import documents
from .base import change, change_options, group, secrets_option, wait_option, with_state
from .input import read
from .tables import print_document, visible

_FORMAT = click.Choice(["json", "toml"])


@group.command(short_help="Print all settings as one document.")
@click.option("--format", "format_", type=_FORMAT, default="json", show_default=True)
@click.option("--stored", is_flag=True, help="Only what is not at its default.")
@secrets_option
@with_state
def export(state: WaffleState, format_: documents.Format, stored: bool, show_secrets: bool) -> None:
    """Print all settings as one document, which "import" reads.

    Secrets are masked, and an import leaves masked ones as they are. TOML has no null: a
    setting that is null becomes a comment.
    """
    values = operations.export(state, show_secrets=show_secrets, stored_only=stored)
    print_document(documents.dump(values, format_))
    declarations = [state.declarations[name] for name in values]
    for said, names in (
        ("pinned", [one.name for one in declarations if one.pinned]),
        (
            "defaults from app.config",
            [
                one.name
                for one in declarations
                if one.default_from == "config"
                and not one.pinned
                and one.name not in state.snapshot.stored
            ],
        ),
    ):
        if names:
            click.echo(f"{said}: {visible(', '.join(names))}", err=True)


@group.command("import", short_help="Give settings the values of a document.")
@click.argument("file", type=click.File("rb"))
@click.option("--format", "format_", type=_FORMAT, help="Default: toml for *.toml, else json.")
@wait_option
@change_options
@with_state
def import_(
    state: WaffleState, file: BinaryIO, format_: documents.Format | None, **details: Any
) -> None:
    """Give settings the values of a document, all or none, as one change.

    FILE is what "export" printed, or written by hand: settings that it does not name stay as
    they are. A value that equals the declared default puts the setting back to its default. A
    dash reads the standard input.
    """
    if format_ is None:
        format_ = "toml" if str(getattr(file, "name", "")).endswith(".toml") else "json"
    values = documents.load(read(file), format_)
    raws = operations.plan_import(state, values)
    for name, value in values.items():
        if value == MASK and name not in raws:
            click.echo(f"{visible(name)}: masked in the file, so it stays as it is", err=True)
    change(state, raws, **details)
