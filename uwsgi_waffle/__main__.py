"""The command line: ``python -m uwsgi_waffle``."""

from __future__ import annotations

import io
import sys

import click

from .checks import CheckError, check_file
from .checks.printing import finding_lines, totals
from .ini import SNIPPETS, snippet_path, snippet_text
from .masking import json_text, visible
from .version import __version__

FOUND = 1
NOT_CHECKED = 2


@click.group()
@click.version_option(__version__, package_name="uwsgi_waffle", prog_name="uwsgi_waffle")
def main() -> None:
    """Set up uWSGI for uwsgi_waffle."""
    # A file may hold what the terminal's encoding can't show.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@main.command(
    epilog="\b\nSnippets:\n"
    + "\n".join(f"  {name:<8} {purpose}" for name, purpose in SNIPPETS.items())
)
@click.argument("name", type=click.Choice(list(SNIPPETS)), default="waffle", metavar="[NAME]")
@click.option("--path", is_flag=True, help="Print its absolute path instead.")
def ini(name: str, path: bool) -> None:
    """Print a snippet that an ini of uWSGI can include; `waffle` unless another is named."""
    click.echo(snippet_path(name) if path else snippet_text(name), nl=path)


@main.command(
    epilog="""\b
Exit status:
  0  nothing was found
  1  at least one finding, be it an error or a warning
  2  the file could not be checked, or the command line is wrong
"""
)
@click.argument("file")
@click.option(
    "--uwsgi",
    metavar="PATH",
    help="The uWSGI whose parser resolves the file; by default $WAFFLE_UWSGI, or the one beside "
    "this Python, or on the PATH.",
)
@click.option("--python", metavar="X.Y", help="Version of the server's Python.")
@click.option("--section", metavar="NAME", default="uwsgi", show_default=True, help="Of the ini.")
@click.option(
    "--allow-exec",
    is_flag=True,
    help="Let uWSGI's parser run what the file names, such as exec://.",
)
@click.option(
    "--allow-plugins",
    is_flag=True,
    help="Let uWSGI's parser load the plugins that the file names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(
    ctx: click.Context,
    file: str,
    uwsgi: str | None,
    python: str | None,
    section: str,
    allow_exec: bool,
    allow_plugins: bool,
    as_json: bool,
) -> None:
    """Look in an ini of uWSGI for what breaks or weakens the promises of uwsgi_waffle.

    Nothing that the file names is run or loaded unless it is allowed. Run it where uWSGI is
    started: relative includes count from the current directory.
    """
    try:
        report = check_file(
            file,
            section=section,
            uwsgi=uwsgi,
            python=python,
            allow_exec=allow_exec,
            allow_plugins=allow_plugins,
        )
    except CheckError as exc:
        if as_json:
            click.echo(json_text({"file": file, "error": str(exc)}))
        else:
            click.echo(f"not checked: {visible(str(exc))}", err=True)
        ctx.exit(NOT_CHECKED)
    if as_json:
        click.echo(json_text(report))
    else:
        for line in finding_lines(report.findings, report.notes):
            click.echo(line)
        python_ = f", Python {report.python}" if report.python else ""
        click.echo(
            f"{visible(report.file)}: {totals(report.findings)} (parser: {report.parser}{python_})"
        )
    if report.findings:
        ctx.exit(FOUND)


if __name__ == "__main__":
    main(prog_name="python -m uwsgi_waffle")
