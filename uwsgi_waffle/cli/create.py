"""The command that makes a store's tables: create-tables."""

from __future__ import annotations

import contextlib

import click

from ..masking import visible
from .base import group, load_state, opened


@group.command("create-tables", short_help="Make the store's tables that are missing.")
@click.option("--url", metavar="URL", help="The app's database as a user who may create tables.")
@click.pass_context
def create_tables_(ctx: click.Context, url: str | None) -> None:
    """Make those of the store's tables that are missing, also that of workers' reports.

    For an app whose own database user may not make tables: name one who may by --url, once. URL
    is as in WAFFLE_STORE_URL. Then let the app's user read and write the tables.
    """
    state = load_state(ctx)
    with contextlib.ExitStack() as stack:
        store = state.store if url is None else stack.enter_context(opened(state, url, "--url"))
        # Stores without tables make what they need when it is needed.
        getattr(store, "create_tables", store.prepare)()
        click.echo(f"{visible(repr(store))} has all its tables")
