"""The command line: ``python -m uwsgi_waffle``."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from pathlib import Path

import click

from .checks import CheckError, Report, check_file, find_server
from .checks.printing import finding_lines, totals
from .checks.setup import ini_for_an_app, ini_for_an_emperor
from .cli.streams import Group
from .ini import SNIPPETS, snippet_path, snippet_text
from .ini.hooks import HOOKS
from .masking import json_text, visible
from .version import __version__

#: the alert rules on the metrics of uwsgi_waffle.prometheus
ALERTS = Path(__file__).resolve().parent / "reporting" / "alerts.yml"
FOUND = 1
NOT_CHECKED = 2


_uwsgi_option = click.option(
    "--uwsgi",
    metavar="PATH",
    help="The uWSGI that is to serve the file; by default $WAFFLE_UWSGI, or the one beside this "
    "Python, or on the PATH.",
)


@click.group(cls=Group)
@click.version_option(__version__, package_name="uwsgi_waffle", prog_name="uwsgi_waffle")
def main() -> None:
    """Set up uWSGI for uwsgi_waffle."""


@main.command(
    short_help="Print a snippet for an ini of uWSGI.",
    epilog="\b\nSnippets:\n"
    + "\n".join(f"  {name:<8} {purpose}" for name, purpose in SNIPPETS.items()),
)
@click.argument("name", type=click.Choice(list(SNIPPETS)), default="waffle", metavar="[NAME]")
@click.option("--path", is_flag=True, help="Print its absolute path instead.")
def ini(name: str, path: bool) -> None:
    """Print a snippet that an ini of uWSGI can include; `waffle` unless another is named."""
    click.echo(snippet_path(name) if path else snippet_text(name), nl=path)


@main.command(short_help="Print alert rules for Prometheus.")
@click.option("--path", is_flag=True, help="Print the absolute path of the file instead.")
def alerts(path: bool) -> None:
    """Print three alert rules for Prometheus: stale, behind, interrupted."""
    click.echo(ALERTS if path else ALERTS.read_text(encoding="utf-8"), nl=path)


@main.command(
    epilog="""\b
Exit status:
  0  it is written, or was as it should be, and passes the check
  1  another file is there, or the check has findings
  2  it can't be made, or not be checked
"""
)
@click.argument("app", default="app:app", metavar="[MODULE:CALLABLE]")
@click.option("--file", metavar="FILE", help="Where to write; by default uwsgi.ini.")
@click.option("--overwrite", is_flag=True, help="Replace a file that differs.")
@click.option("--snippet", type=click.Choice(list(SNIPPETS)), default="waffle", show_default=True)
@click.option("--http-socket", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="By default one for each CPU, at least 2 and at most 8.",
)
@click.option("--emperor", metavar="FOLDER", help="Write an emperor's file for these vassals.")
@_uwsgi_option
@click.pass_context
def init(
    ctx: click.Context,
    app: str,
    file: str | None,
    overwrite: bool,
    snippet: str,
    http_socket: str,
    processes: int | None,
    emperor: str | None,
    uwsgi: str | None,
) -> None:
    """Write a whole uwsgi.ini for this environment, and check it.

    It serves MODULE:CALLABLE, by default app:app, from the folder of the file. If another
    file is there, the difference is shown and nothing is written.
    """
    path = Path(file or ("uwsgi.ini" if emperor is None else "emperor.ini"))
    try:
        server = find_server(uwsgi)
        if emperor is None:
            text = ini_for_an_app(
                server,
                name=path.name,
                app=app,
                snippet=snippet,
                http_socket=http_socket,
                processes=processes,
            )
        else:
            text = ini_for_an_emperor(server, emperor, name=path.name)
        there = _write(path, text, overwrite=overwrite)
    except (CheckError, OSError) as exc:
        reason = f"{path}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        click.echo(f"not written: {visible(reason)}", err=True)
        ctx.exit(NOT_CHECKED)
    if there is not None and there != text:
        _print_difference(path, there, text)
        ctx.exit(FOUND)
    click.echo(f"{visible(str(path))} is {'written' if there is None else 'as it should be'}")
    try:
        report = check_file(path, uwsgi=uwsgi)
    except CheckError as exc:
        click.echo(f"not checked: {visible(str(exc))}", err=True)
        ctx.exit(NOT_CHECKED)
    _print_report(report)
    if emperor is None and snippet == "gevent" and importlib.util.find_spec("gevent") is None:
        # The ini is right; uWSGI ends with a traceback that names no fix.
        click.echo("note: gevent is not installed in this environment: pip install gevent")
    if report.findings:
        ctx.exit(FOUND)


def _write(path: Path, text: str, *, overwrite: bool) -> str | None:
    """Write a file, and return ``None``; without ``overwrite``, return what is there.

    :raises OSError: it can't be read or written.
    """
    try:
        with open(path, "w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return path.read_text(encoding="utf-8", errors="backslashreplace")
    return None


def _print_difference(path: Path, there: str, text: str) -> None:
    lines = difflib.unified_diff(
        there.splitlines(),
        text.splitlines(),
        str(path),
        f"{path}, as written by init",
        lineterm="",
    )
    for line in lines:
        click.echo(visible(line))
    click.echo("Another file is there: nothing is written without --overwrite.", err=True)


@main.command(
    short_help="Check an ini of uWSGI.",
    epilog="""\b
Exit status:
  0  nothing was found
  1  at least one finding, be it an error or a warning
  2  a file could not be checked, or the command line is wrong
""",
)
@click.argument("file", required=False)
@click.option(
    "--also",
    multiple=True,
    metavar="FILE",
    help="An ini that uWSGI reads before this one, as in `uwsgi --ini ALSO --ini FILE`; can be "
    "given several times. For /etc/uwsgi/apps-enabled it is what Debian's service reads.",
)
@click.option("--stdin", is_flag=True, help="Take the text from standard input; FILE names it.")
@_uwsgi_option
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
    file: str | None,
    also: tuple[str, ...],
    stdin: bool,
    uwsgi: str | None,
    python: str | None,
    section: str,
    allow_exec: bool,
    allow_plugins: bool,
    as_json: bool,
) -> None:
    """Look in an ini of uWSGI for what breaks or weakens the promises of uwsgi_waffle.

    FILE is the ini, or a folder of vassals. Nothing that a file names is run or loaded unless
    it is allowed. Run it where uWSGI is started: relative includes count from the current
    directory.
    """
    content = sys.stdin.buffer.read() if stdin else None
    if file is None:
        if not stdin:
            raise click.UsageError("name the FILE to be checked, or give its text with --stdin")
        file = "uwsgi.ini"
    if stdin or not os.path.isdir(file):
        files = [file]
    else:
        files = sorted(str(path) for path in Path(file).glob("*.ini"))
    answers: list[Report | dict[str, str]] = []
    status = 0 if files else NOT_CHECKED
    for name in files:
        try:
            report = check_file(
                name,
                section=section,
                also=also or None,
                content=content,
                uwsgi=uwsgi,
                python=python,
                allow_exec=allow_exec,
                allow_plugins=allow_plugins,
            )
        except CheckError as exc:
            answers.append({"file": name, "error": str(exc)})
            status = NOT_CHECKED
        else:
            answers.append(report)
            status = max(status, FOUND if report.findings else 0)
    if not files:
        answers = [{"file": file, "error": "the folder holds no ini"}]
    if as_json:
        alone = files == [file]
        document = json_text(answers[0] if alone else {"file": file, "reports": answers})
        # As UTF-8, whatever the locale is.
        click.echo(document.encode(errors="backslashreplace"))
    else:
        for answer in answers:
            if isinstance(answer, Report):
                _print_report(answer)
            else:
                where = "" if answer["error"].startswith(answer["file"]) else f"{answer['file']}: "
                click.echo(f"not checked: {visible(where + answer['error'])}", err=True)
    ctx.exit(status)


@main.command(short_help="Print the hooks of another server.")
@click.argument("server", type=click.Choice(list(HOOKS)))
def hooks(server: str) -> None:
    """Print the hooks that another server needs, or say that it needs none."""
    click.echo(HOOKS[server], nl=False)


def _print_report(report: Report) -> None:
    for line in finding_lines(report.findings, report.notes):
        click.echo(line)
    python = f", Python {report.python}" if report.python else ""
    click.echo(
        f"{visible(report.file)}: {totals(report.findings)} (parser: {report.parser}{python})"
    )


if __name__ == "__main__":
    main(prog_name="python -m uwsgi_waffle")
