"""The parts that the commands share: the group, the app's state, options, making a change."""

from __future__ import annotations

import contextlib
import functools
import getpass
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from flask.cli import ScriptInfo

from .. import operations
from ..app_state import NO_REPORTS, WaffleState, state_of
from ..errors import (
    ChangeRefused,
    Laggards,
    OutcomeUnknown,
    RevisionConflict,
    WaffleError,
)
from ..process.serving import in_command
from ..stores import Store, store_from_url
from . import streams
from .tables import json_text, print_document, visible

R = TypeVar("R")

CONFLICT = 3
UNKNOWN = 4
BEHIND = 5

UNDECLARED = "this app declares no settings: see WAFFLE_CONFS"

#: what the exit statuses of a changing command mean that does not wait
UNWAITED = """\b
Exit status:
  0  done, or nothing to do
  1  refused or failed; nothing was written
  2  the command line is wrong, or no app was found
  3  someone else changed the settings first; nothing was written
  4  the commit was broken off: the change may have been made
"""
STATUSES = f"""{UNWAITED}\
  5  the change is made, but not every worker serves it within --wait
"""

_MAYBE = "The change may have been made, or not: see `flask waffle history` before you repeat it"


class _Conflict(streams.Status):
    exit_code = CONFLICT


class _Unknown(streams.Status):
    exit_code = UNKNOWN


class _Behind(streams.Status):
    exit_code = BEHIND


class WaffleGroup(streams.Group):
    """A group whose commands may raise any :class:`~uwsgi_waffle.errors.WaffleError`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its errors become messages with an exit status."""
        # Source: no-color.org, "when present and not an empty string".
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            # The names of settings, groups and files are any text. An assignment would do, but for
            # the types of click, which has no other way to change a message and keep the rest.
            vars(exc)["message"] = lines(exc.message)
            raise
        except RevisionConflict as exc:
            raise _Conflict(lines(str(exc))) from exc
        except ChangeRefused as exc:
            problems = [f"  {visible(line)}" for line in exc.lines()]
            raise click.ClickException(
                "\n".join(["refused, nothing was written:", *problems])
            ) from exc
        except OutcomeUnknown as exc:
            raise _Unknown(f"{lines(str(exc))}\n{_MAYBE}") from exc
        except Laggards as exc:
            raise _Behind(lines(str(exc))) from exc
        except WaffleError as exc:
            raise click.ClickException(lines(str(exc))) from exc


@click.group(cls=WaffleGroup, epilog=STATUSES)
def group() -> None:
    """Show and change the live settings of the app.

    Every running worker serves a change from its next request on.
    """


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Return a context in which Python does not print that the store fails: the command does.

    If the app has set up logging, its log gets all lines.
    """
    logger = logging.getLogger("uwsgi_waffle")

    def is_logged(record: logging.LogRecord) -> bool:
        return logger.hasHandlers() or getattr(record, "waffle_part", None) != "store"

    logger.addFilter(is_logged)
    try:
        yield
    finally:
        logger.removeFilter(is_logged)


def load_state(ctx: click.Context) -> WaffleState:
    """Return the state of the app that ``flask`` is run for, within its app context.

    :raises ConfigurationError: the app is set up wrongly, or has no WaffleConf.
    """
    ctx.call_on_close(functools.partial(in_command.reset, in_command.set(True)))
    with said_once():
        app = ctx.ensure_object(ScriptInfo).load_app()
    state = state_of(app)
    ctx.with_resource(app.app_context())
    ctx.call_on_close(state.store.close)
    return state


def with_state(function: Callable[..., R]) -> Callable[..., R]:
    """Return a command that is given the app's state, just read from the store."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> R:
        state = load_state(click.get_current_context())
        with said_once():
            state.refresh()
        return function(state, *args, **kwargs)

    return command


@contextlib.contextmanager
def opened(state: WaffleState, url: str, named: str) -> Iterator[Store]:
    """Return a context with the store that a URL names, set up as the app's own is.

    :param named: the option or argument that gave the URL, for messages.
    :raises ConfigurationError: no store knows this URL, or what it needs is not installed.
    """
    options = state.options
    store = store_from_url(
        url,
        folder=Path(state.app.instance_path),
        timeout_s=options.store_timeout_s,
        write_timeout_s=options.write_timeout_s,
        history_limit=options.history_limit,
        named=named,
    )
    try:
        yield store
    finally:
        store.close()


def complete_names(suffix: str = "") -> Callable[..., list[CompletionItem]]:
    """Return what the shell's completion asks for the names of settings."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            # Without an app context: click never ends what a completion begins.
            declarations = state_of(ctx.ensure_object(ScriptInfo).load_app()).declarations
        except Exception:  # an app that fails must not spoil the line being typed
            return []
        return [
            CompletionItem(name + suffix, help=declaration.desc)
            for name, declaration in declarations.items()
            if name.startswith(incomplete)
        ]

    return complete


yes_option = click.option("--yes", is_flag=True, help="Don't ask before the change is made.")
secrets_option = click.option("--show-secrets", is_flag=True, help="Don't mask secret values.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class NotEmpty(click.types.StringParamType):
    """A text that is there: of a script's variable that is not set, nothing is left."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the text.

        :raises BadParameter: it is empty.
        """
        text = str(super().convert(value, param, ctx))
        if not text:
            self.fail("it is empty", param, ctx)
        return text


class Whole(click.IntRange):
    """A whole number, with bounds."""

    # As click's message calls it.
    name = "whole number"


class Seconds(click.FloatRange):
    """A number of seconds, from 0 on."""

    name = "number of seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        # A NaN is in every range, and never over.
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return number


wait_option = click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Return when every worker serves the change; exit with 5 if that takes longer.",
)


def _login_name() -> str:
    # The person, not root: sudo keeps who it was called by.
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):
        return f"uid {os.getuid()}"


def change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every changing command has; :func:`change` takes them."""
    options = (
        click.option(
            "--author",
            default=_login_name,
            show_default="your login name",
            help="Who makes the change, for the history.",
        ),
        click.option("--reason", help="Why, for the history."),
        click.option(
            "--expect-revision",
            type=int,
            metavar="N",
            help="Refuse, with exit status 3, if the settings are no longer at revision N.",
        ),
        click.option("--dry-run", is_flag=True, help="Show what would change; write nothing."),
        secrets_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def change(
    state: WaffleState,
    raws: Mapping[str, str | None],
    *,
    author: str,
    reason: str | None,
    expect_revision: int | None,
    dry_run: bool,
    show_secrets: bool,
    wait_s: float | None = None,
    question: str | None = None,
) -> None:
    """Make a change unless it alters nothing, and show what it altered.

    :param wait_s: wait until every process serves the change; ``None`` not to wait.
    :param question: asked before a change is made; ``None`` if there is nothing to ask.
    :raises PinnedSettingError: a setting is pinned; nothing was written.
    :raises Abort: the answer is no; nothing was written.
    :raises UsageError: there is a question, and no terminal to ask it on.
    :raises RevisionConflict: the store is at another revision; nothing was written.
    :raises OutcomeUnknown: the connection broke within the commit.
    :raises StoreError: the store failed; nothing was written.
    :raises Laggards: the change is made, but some process does not serve it in time.
    """
    state.declarations.refuse_pinned(raws)
    seen = state.snapshot.revision
    differences = operations.preview(state, raws, show_secrets=show_secrets)
    asked = question is not None and bool(differences) and not dry_run
    if asked:
        print_differences(differences)
        ask(question or "")
        # What the question was about is what is written: a change in between is a conflict.
        expect_revision = seen if expect_revision is None else expect_revision
    revision, outcome = write(
        state,
        raws if differences else {},
        author=author,
        reason=reason,
        expect_revision=expect_revision,
        dry_run=dry_run,
    )
    with after_change() if differences and not dry_run else contextlib.nullcontext():
        # Shown when it is done, so that a refused change is not taken for one.
        if not asked:
            print_differences(differences)
        click.echo(outcome)
        warn_unannounced(state, revision)
    # Also if nothing was to change: of two equal commands the second may be the patient one.
    if wait_s is not None and not dry_run:
        try:
            served = state.wait(revision, timeout_s=wait_s).served
        except KeyboardInterrupt:
            raise _Behind(f"stopped waiting: revision {revision} stands") from None
        with after_change():
            said = f"served by {served} of {served}" if served else "no process serves this app"
            click.echo(said)
            warn_unknown_hosts(state)


@contextlib.contextmanager
def committing() -> Iterator[None]:
    """Return a context for a commit, what is announced of it, and the receivers of its signal.

    :raises ClickException: Ctrl-C, of which click would say the same as at a question.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _Unknown(f"stopped within the commit\n{_MAYBE}") from None


@contextlib.contextmanager
def after_change() -> Iterator[None]:
    """Return a context for what is printed about a change that is made.

    That it can't be printed is said on stderr: the exit status of a failure would say that nothing
    was written.
    """
    try:
        yield
    except OSError as exc:
        streams.discard("stdout")
        try:
            click.echo(f"the change is made, but can't be printed: {exc.strerror}", err=True)
        except OSError:
            streams.discard("stderr")


def ask(question: str) -> None:
    """Return if the answer is yes.

    :raises Abort: it is no.
    :raises UsageError: there is no terminal to ask on.
    """
    if not is_interactive():
        raise click.UsageError("there is no terminal to ask on: repeat it with --yes")
    click.confirm(question, abort=True, err=True)


def is_interactive() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty()


def print_differences(differences: Iterable[operations.Difference]) -> None:
    """Print a line for each setting that differs."""
    for name, old, new in differences:
        shown = f"{click.style(visible(old), fg='red')} → {click.style(visible(new), fg='green')}"
        click.echo(f"{visible(name)}: {shown}")


def write(
    state: WaffleState,
    raws: Mapping[str, str | None],
    *,
    author: str,
    reason: str | None,
    expect_revision: int | None,
    dry_run: bool,
) -> tuple[int, str]:
    """Make a change unless it is empty or a dry run; return the revision, and a line for people.

    :raises RevisionConflict: the store is at another revision; nothing was written.
    :raises OutcomeUnknown: the connection broke within the commit.
    :raises StoreError: the store failed; nothing was written.
    """
    current = state.snapshot.revision
    if raws and not dry_run:
        with committing():
            made = state.commit(
                raws, author=author, reason=reason, expected_revision=expect_revision
            )
        return made, f"revision {made}"
    if expect_revision is not None and expect_revision != current:
        raise RevisionConflict(expect_revision, current)
    outcome = "not written (--dry-run)" if raws else "nothing to change"
    return current, f"{outcome}, the settings are at revision {current}"


def warn_unannounced(state: WaffleState, revision: int) -> None:
    """Say on stderr if a change was committed, but could not be announced everywhere."""
    for part, error in state.engine.manager.health.failing().items():
        if part.startswith("announcing"):
            click.echo(
                f"revision {revision} is committed, but {part} failed: some workers follow only at "
                f"their next resync: {lines(error)}",
                err=True,
            )


def warn_unknown_hosts(state: WaffleState) -> None:
    """Say on stderr if only this host was waited for, because other hosts are not known."""
    if not state.knows_hosts:
        click.echo(
            f"other hosts are not known, and were not waited for: {NO_REPORTS}",
            err=True,
        )


def lines(text: str) -> str:
    """Return a text of several lines in which nothing can steer the terminal."""
    return "\n".join(map(visible, text.split("\n")))


def print_json(value: object) -> None:
    """Print one JSON document."""
    print_document(json_text(value) + "\n")
