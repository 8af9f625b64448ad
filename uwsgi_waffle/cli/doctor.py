"""The command that looks for what is wrong: doctor."""

from __future__ import annotations

import click

from ..errors import ConfigurationError
from ..masking import visible
from .base import group, json_option, load_state, print_json, said_once

FOUND = 1
NOT_EXAMINED = 2


@group.command(
    "doctor",
    short_help="Look for what is wrong, and name the fix.",
    epilog="""\b
Exit status:
  0  nothing was found
  1  at least one finding, be it an error or a warning
  2  the app can't be set up, so nothing else was examined
""",
)
@click.option("--ini", metavar="FILE", help="Check this ini of uWSGI, too.")
@click.option("--section", metavar="NAME", default="uwsgi", show_default=True, help="Of the ini.")
@json_option
@click.pass_context
def doctor_(ctx: click.Context, ini: str | None, section: str, as_json: bool) -> None:
    """Look for what is wrong: store, watch file, notices, stored values, a uwsgi.ini.

    Each finding comes with its fix. No setting is changed and the revision stays; workers are
    made to read the store once more.
    """
    # Here, because every `flask` command imports this module.
    from .. import doctor
    from ..checks.printing import finding_lines, totals

    try:
        ctx.with_resource(said_once())
        state = load_state(ctx)
    except ConfigurationError as exc:
        diagnosis = doctor.not_set_up(exc)
    else:
        diagnosis = doctor.examine(state, ini=ini, section=section)
    if as_json:
        print_json(diagnosis)
    else:
        if diagnosis.revision is not None:
            click.echo(f"{visible(diagnosis.store)} is at revision {diagnosis.revision}")
        for line in finding_lines(diagnosis.findings, diagnosis.notes):
            click.echo(line)
        click.echo(totals(diagnosis.findings))
    if diagnosis.findings:
        not_set_up = any(finding.id == "D001" for finding in diagnosis.findings)
        ctx.exit(NOT_EXAMINED if not_set_up else FOUND)
