"""The command that imports what Flask-WaffleConf stored: import-legacy."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from .. import operations
from ..app_state import WaffleState
from ..errors import RevisionConflict
from .base import (
    UNWAITED,
    after_change,
    change_options,
    group,
    load_state,
    said_once,
    warn_unannounced,
    write,
)
from .tables import table, visible

if TYPE_CHECKING:
    from ..legacy import LegacyPlan

_EPILOG = f"""\b
What becomes of a row:
  import      its value is written
  default     its value is the declared default: the setting is left at it
  unchanged   the setting has this value already
  kept        the setting was changed since the rows were written
  undeclared  WAFFLE_CONFS has no such setting: the row is left alone
  refused     it can't be read, or does not fit its declaration

{UNWAITED}"""


@group.command("import-legacy", epilog=_EPILOG)
@click.option("--table", "table_name", metavar="NAME", help="The table of Flask-WaffleConf.")
@click.option("--key-column", default="key", show_default=True, metavar="NAME")
@click.option("--value-column", default="value", show_default=True, metavar="NAME")
@click.option(
    "--url",
    metavar="URL",
    envvar="WAFFLE_LEGACY_URL",
    show_envvar=True,
    help="The database of that table: sqlite:///FILE, or any URL of SQLAlchemy's.",
)
@click.option(
    "--skip-refused", is_flag=True, help="Leave out rows that are refused, and import the others."
)
@click.option("--overwrite", is_flag=True, help="Also change settings that were changed since.")
@change_options
def import_legacy(
    table_name: str | None,
    key_column: str,
    value_column: str,
    url: str | None,
    skip_refused: bool,
    overwrite: bool,
    **details: Any,
) -> None:
    """Import what Flask-WaffleConf stored, as one change.

    Its rows are pickles, which can run anything when they are loaded. Here they are read as
    plain data only: numbers, strings, lists, dicts, dates, decimals, UUIDs. Nothing is written
    before every row is checked, and nothing at all if a row is refused, unless --skip-refused is
    given.

    Without --table, the rows are those of the app's own store: that is where they are if your
    key/value model stays in use.
    """
    from .. import legacy

    if (table_name is None) != (url is None):
        raise click.UsageError("--table and --url belong together")
    ctx = click.get_current_context()
    ctx.with_resource(said_once())
    state = load_state(ctx)
    # All of it: a row that another program put in has no revision.
    state.update_conf()
    stored = state.snapshot.stored
    rows: list[tuple[Any, Any]] = list(stored.items())
    if table_name is not None and url is not None:
        rows = legacy.read_rows(
            url, table=table_name, key_column=key_column, value_column=value_column
        )
    elif not rows:
        raise click.UsageError(
            "the app's store holds no rows: name the table of Flask-WaffleConf by --table and "
            "its database by --url"
        )
    plan = legacy.import_legacy(rows, state.declarations, stored, overwrite=overwrite)
    _print_plan(state, plan, details["show_secrets"])
    if plan.refused and not skip_refused:
        raise click.ClickException(
            f"{len(plan.refused)} refused, nothing was written: fix or delete these rows, or "
            "leave them out by --skip-refused"
        )
    _write(state, plan, **details)


def _print_plan(state: WaffleState, plan: LegacyPlan, show_secrets: bool) -> None:
    from ..legacy import Verdict

    rows = [
        (
            line.name,
            ""
            if line.raw is None
            else operations.show_raw(state, line.name, line.raw, show_secrets=show_secrets),
            line.verdict.value,
        )
        for line in plan.lines
    ]
    click.echo(table(("NAME", "VALUE", "ROW"), rows, flexible=(0, 1)))
    for line in plan.lines:
        if line.reason:
            # In full, which the table has no room for.
            click.echo(
                f"{visible(line.name)}: {line.verdict.value}: {visible(line.reason)}", err=True
            )
    counts = Counter(line.verdict for line in plan.lines)
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    click.echo(", ".join(parts) or "no rows")


def _write(
    state: WaffleState,
    plan: LegacyPlan,
    *,
    reason: str | None,
    expect_revision: int | None,
    show_secrets: bool,
    dry_run: bool,
    **details: Any,
) -> None:
    revision = state.snapshot.revision
    if expect_revision is not None and expect_revision != revision:
        raise RevisionConflict(expect_revision, revision)
    # What is shown is what is written: a change that someone makes in between is a conflict.
    made, outcome = write(
        state,
        plan.raws,
        reason=reason or "import from Flask-WaffleConf",
        expect_revision=revision,
        dry_run=dry_run,
        **details,
    )
    with after_change() if plan.raws and not dry_run else contextlib.nullcontext():
        click.echo(outcome)
        warn_unannounced(state, made)
