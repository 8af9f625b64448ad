"""The command line: ``python -m uwsgi_waffle``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

import msgspec

from uwsgi_waffle.checks import CheckError, Report, check_file
from uwsgi_waffle.ini import SNIPPETS, snippet_path, snippet_text

_STATUSES = """\
exit status:
  0  nothing was found
  1  at least one finding, be it an error or a warning
  2  the file could not be checked, or the command line is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    :raises SystemExit: with status 2 if the command line is wrong, 0 after ``--help``.
    """
    arguments = _make_parser().parse_args(argv)
    # A file may hold what the terminal can't show.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _ini(arguments) if arguments.command == "ini" else _check(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; the interpreter would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    return status


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uwsgi_waffle", description="Set up uWSGI for uwsgi_waffle."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ini = commands.add_parser(
        "ini",
        help="print a snippet for your uwsgi.ini",
        description="Print a snippet that an ini of uWSGI can include.",
        epilog="snippets:\n"
        + "".join(f"  {name:<8} {purpose}\n" for name, purpose in SNIPPETS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ini.add_argument(
        "name",
        nargs="?",
        default="waffle",
        metavar="NAME",
        choices=list(SNIPPETS),
        help="waffle (default), redis or gevent",
    )
    ini.add_argument("--path", action="store_true", help="print its absolute path instead")
    check = commands.add_parser(
        "check",
        help="look for what breaks the promises in a uwsgi.ini",
        description="Look in an ini of uWSGI for what breaks or weakens the promises of "
        "uwsgi_waffle. Nothing that the file names is run or loaded unless it is allowed. Run "
        "it where uWSGI is started: relative includes count from the current directory.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", metavar="FILE", help="the ini")
    check.add_argument(
        "--uwsgi",
        metavar="PATH",
        help="the uWSGI whose parser resolves the file; "
        "default: $WAFFLE_UWSGI, beside this Python, on the PATH",
    )
    check.add_argument("--python", metavar="X.Y", help="version of the server's Python")
    check.add_argument("--section", metavar="NAME", default="uwsgi", help="default: uwsgi")
    check.add_argument(
        "--allow-exec",
        action="store_true",
        help="let uWSGI's parser run what the file names, such as exec://",
    )
    check.add_argument(
        "--allow-plugins",
        action="store_true",
        help="let uWSGI's parser load the plugins that the file names",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _ini(arguments: argparse.Namespace) -> int:
    if arguments.path:
        print(snippet_path(arguments.name))
    else:
        print(snippet_text(arguments.name), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    try:
        report = check_file(
            arguments.file,
            section=arguments.section,
            uwsgi=arguments.uwsgi,
            python=arguments.python,
            allow_exec=arguments.allow_exec,
            allow_plugins=arguments.allow_plugins,
        )
    except CheckError as exc:
        if arguments.json:
            _print_json({"file": arguments.file, "error": str(exc)})
        else:
            print(f"not checked: {exc}", file=sys.stderr)
        return 2
    if arguments.json:
        _print_json(report)
    else:
        _print_text(report)
    return 1 if report.findings else 0


def _print_json(report: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())


def _print_text(report: Report) -> None:
    for finding in report.findings:
        where = f"{finding.file}:{finding.line}"
        print(f"{where}: {finding.id} {finding.level}: {finding.message}")
        print(f"    mend: {finding.mend}")
    for note in report.notes:
        print(f"note: {note}")
    errors = sum(finding.level == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    python = f", Python {report.python}" if report.python else ""
    print(f"{report.file}: {errors} errors, {warnings} warnings (parser: {report.parser}{python})")


if __name__ == "__main__":
    sys.exit(main())
