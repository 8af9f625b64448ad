"""The command that compares settings: diff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from .. import operations
from ..app_state import WaffleState
from ..errors import WaffleError
from ..masking import MASK
from ..settings.declarations import Declarations
from . import documents
from .base import (
    NotEmpty,
    group,
    json_option,
    lines,
    opened,
    print_differences,
    print_json,
    secrets_option,
    with_state,
)
from .input import read

DIFFERENT = 1


class _Side(NamedTuple):
    """One side of a comparison.

    :ivar raws: mapping of setting name to JSON text.
    :ivar whole: a setting that is not among them is at its default; in a document, left open.
    """

    raws: dict[str, str]
    whole: bool


@group.command(
    short_help="Show how stores, backups or files differ.",
    epilog="""\b
Exit status:
  0  nothing differs, or --exit-code was not given
  1  something differs and --exit-code was given; or a side can't be read
  2  the command line is wrong, or no app was found
""",
)
@click.argument("one", metavar="ONE", type=NotEmpty())
@click.argument("other", metavar="[OTHER]", required=False, type=NotEmpty())
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something differs.")
@json_option
@secrets_option
@with_state
def diff(
    state: WaffleState,
    one: str,
    other: str | None,
    exit_code: bool,
    as_json: bool,
    show_secrets: bool,
) -> None:
    """Show how the settings of ONE differ from those of OTHER, or of the app's store.

    Each is the URL of a store, a backup, or a file that "export" printed. Settings that such a
    file does not name are left out. Secrets are compared, but shown masked.
    """
    sides = [_read(state, one, "ONE"), _read(state, other, "OTHER")]
    differences = [
        operations.Difference(
            name,
            *(
                operations.show_raw(state, name, side.raws.get(name), show_secrets=show_secrets)
                for side in sides
            ),
        )
        for name in sorted(set(sides[0].raws) | set(sides[1].raws))
        if all(side.whole or name in side.raws for side in sides)
        and _differs(state.declarations, name, *(side.raws.get(name) for side in sides))
    ]
    if as_json:
        print_json([difference._asdict() for difference in differences])
    else:
        print_differences(differences)
        if not differences:
            click.echo("nothing differs")
    if differences and exit_code:
        click.get_current_context().exit(DIFFERENT)


def _differs(declarations: Declarations, name: str, one: str | None, other: str | None) -> bool:
    declaration = declarations.get(name)
    if declaration is not None:
        if declaration.secret and {MASK, f'"{MASK}"'} & {one, other}:
            return False
        # Whether the default is stored or not makes no difference for a worker.
        one = declaration.default_raw if one is None else one
        other = declaration.default_raw if other is None else other
    return not operations.is_same(declaration, one, other)


def _read(state: WaffleState, source: str | None, named: str) -> _Side:
    if source is None:
        return _Side(dict(state.snapshot.stored), whole=True)
    if "://" in source:
        with opened(state, source, named) as store:
            rows = store.read_since(0, "").rows
        return _Side({name: raw for name, raw in rows if raw is not None}, whole=True)
    path = Path(source)
    try:
        with path.open("rb") as file:
            text = read(file)
    except OSError as exc:
        raise click.ClickException(f"{source} can't be read: {exc.strerror}") from exc
    try:
        values = documents.load(text, "toml" if path.suffix == ".toml" else "json")
        if values.get("format") == operations.FORMAT:
            return _Side(operations.read_backup(text).settings, whole=True)
    except WaffleError as exc:
        raise click.ClickException(f"{source}: {lines(str(exc))}") from exc
    return _Side(_raws(values), whole=False)


def _raws(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: msgspec.json.encode(value).decode() for name, value in values.items()}
