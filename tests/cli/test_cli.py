"""``flask waffle``: what each command prints, what it changes, and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result, _NamedTextIOWrapper
from flask import Flask
from flask.cli import ScriptInfo

from uwsgi_waffle import (
    ConfigurationError,
    NotifierError,
    OutcomeUnknown,
    StoreUnavailable,
    WaffleConf,
)
from uwsgi_waffle.__main__ import main
from uwsgi_waffle.cli import group
from uwsgi_waffle.cli.base import load_state
from uwsgi_waffle.masking import MASK
from uwsgi_waffle.notifiers.file import FileNotifier

from ..support.rig import CONFS, MemoryStore, Worker

MakeWorker = Callable[..., Worker]
OnTerminal = Callable[[], None]
SECRET = "open-sesame"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> OnTerminal:
    """Return what makes the streams of a command a terminal from now on."""
    return lambda: monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda self: True)


def run(worker: Worker, *arguments: str, status: int = 0, **options: Any) -> Result:
    """Run one command on a worker's app; check its exit status."""
    result = worker.app.test_cli_runner().invoke(group, list(arguments), **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


def test_list_shows_every_setting_and_where_its_value_comes_from(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": "New"})
    assert run(worker, "list").stdout.splitlines() == [
        "NAME      VALUE     DEFAULT   TYPE  FROM",
        'SITENAME  "New"     "Shop"    str   stored',
        "LIMIT     10        10        int   default",
        "TOKEN     ********  ********  str   default",
    ]


def test_list_tells_faults(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.write({"LIMIT": "5000"})
    result = run(worker, "list")
    assert "LIMIT     10        10        int   fault" in result.stdout
    assert "LIMIT: what is stored does not fit: it must be at most 1000" in result.stderr


def test_tables_fit_the_terminal_and_nothing_steers_it(
    make_worker: MakeWorker, on_terminal: OnTerminal
) -> None:
    on_terminal()
    worker = make_worker()
    worker.waffle.update(
        {"SITENAME": "wide " * 100}, author="a\x1b[31mb", reason="because\nof " * 9
    )
    worker.waffle.update({"SITENAME": "bell \x07 \x9b31m \u202e"}, author="ann", reason="x")
    for command in (["list"], ["history"], ["describe", "SITENAME"]):
        lines = run(worker, *command).stdout.splitlines()
        assert all(len(line) <= 80 for line in lines if command != ["describe", "SITENAME"]), lines
        assert all(line.isprintable() for line in lines), lines


def test_tables_are_whole_where_there_is_no_terminal(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": "wide " * 100}, reason="because " * 50)
    for command in ("list", "history"):
        assert "wide " * 100 in run(worker, command).stdout
    assert "because " * 49 in run(worker, "history").stdout


STEERING = "bell \x07\x1b[31m \x9b31m \x85 \u202e\u2066 \u2028 \U000e0001"


def test_no_document_holds_what_steers_a_terminal(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": STEERING}, author=STEERING, reason=STEERING)
    for command in (
        ["list", "--json"],
        ["get", "SITENAME", "--json"],
        ["describe", "SITENAME", "--json"],
        ["history", "--json"],
        ["export"],
        ["export", "--format", "toml"],
    ):
        lines = run(worker, *command).stdout.split("\n")
        assert all(line.isprintable() for line in lines), lines
    assert json.loads(run(worker, "get", "SITENAME", "--json").stdout) == {"SITENAME": STEERING}
    assert json.loads(run(worker, "history", "--json").stdout)[0]["author"] == STEERING


def test_get_gives_scripts_the_very_text_and_people_what_can_not_steer_a_terminal(
    make_worker: MakeWorker, on_terminal: OnTerminal
) -> None:
    worker = make_worker()
    worker.waffle.update({"SITENAME": f"{STEERING}\n\ttwo"})
    assert run(worker, "get", "SITENAME").stdout == f"{STEERING}\n\ttwo\n"
    on_terminal()
    shown = run(worker, "get", "SITENAME").stdout
    assert shown.startswith("bell \\x07\\x1b[31m \\x9b31m \\x85 \\u202e\\u2066 \\u2028 ")
    assert shown.endswith("\n\ttwo\n")


def test_errors_do_not_steer_the_terminal(make_worker: MakeWorker) -> None:
    worker = make_worker(
        confs={"KIND": {"desc": "Kind", "default": "a", "type": Literal["a", "b"]}}
    )
    for arguments in (["set", f"KIND={STEERING}"], ["set", f"{STEERING}=1"], ["get", STEERING]):
        stderr = run(worker, *arguments, status=1).stderr
        assert all(line.isprintable() for line in stderr.split("\n")), stderr


def test_names_in_errors_do_not_steer_the_terminal(
    make_worker: MakeWorker, tmp_path: Path, on_terminal: OnTerminal
) -> None:
    name = STEERING.replace("\u2028", "")
    conf = {"desc": "d", "default": 1, "group": name}
    worker = make_worker(confs={name: {**conf, "secret": True}, f"{name}2": conf})
    worker.state.store.write({f"{name}2": '"a"'})
    for arguments, status in (
        (["get", name], 1),
        (["set", f"{name}=1", f"{name}=2"], 2),
        (["set", f"{name}="], 1),
        (["set", f"{name}=@{tmp_path}/{name}"], 1),
        (["list", "--group", "other"], 2),
        (["list"], 0),
        (["import", f"{tmp_path}/{name}"], 2),
        (["diff", f"{tmp_path}/{name}"], 1),
    ):
        stderr = run(worker, *arguments, status=status).stderr
        assert stderr
        assert all(line.isprintable() for line in stderr.split("\n")), stderr
    on_terminal()
    shown = run(worker, "get", name, f"{name}2", "--show-secrets").stdout
    assert all(line.isprintable() for line in shown.split("\n")), shown


def test_color_is_for_terminals_only(
    make_worker: MakeWorker, on_terminal: OnTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    for command in (["list"], ["history"], ["set", "LIMIT=30", "--dry-run"]):
        assert "\x1b" not in run(worker, *command).output
        # What click takes for a terminal.
        assert "\x1b[" in run(worker, *command, color=True).output
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b" not in run(worker, *command, color=True).output
        monkeypatch.delenv("NO_COLOR")


def test_list_can_be_narrowed(make_worker: MakeWorker) -> None:
    confs = {
        **CONFS,
        "MAIL_HOST": {"desc": "Host", "default": "localhost", "group": "Mail"},
        "MAIL_LIMIT": {"desc": "Limit", "default": 3, "group": "Mail"},
    }
    worker = make_worker(confs=confs)
    worker.waffle.update({"LIMIT": 20, "MAIL_LIMIT": 4})

    def listed(*arguments: str) -> list[str]:
        lines = run(worker, "list", *arguments).stdout.splitlines()
        return [line.split()[0] for line in lines[1:]]

    assert listed("--changed") == ["LIMIT", "MAIL_LIMIT"]
    assert listed("--group", "Mail") == ["MAIL_HOST", "MAIL_LIMIT"]
    assert listed("limit") == ["LIMIT", "MAIL_LIMIT"]
    assert listed("L*", "tok") == ["LIMIT", "TOKEN"]
    assert listed("--changed", "--group", "Mail", "*_*") == ["MAIL_LIMIT"]
    assert listed("nothing") == []
    assert "groups: Mail" in run(worker, "list", "--group", "Mial", status=2).stderr


def test_describe_shows_all_about_a_setting(make_worker: MakeWorker) -> None:
    worker = make_worker(confs={**CONFS, "LIMIT": {**CONFS["LIMIT"], "group": "Uploads"}})
    assert run(worker, "describe", "LIMIT").stdout.splitlines() == [
        "LIMIT",
        "Upload limit",
        "  group:    Uploads",
        "  type:     int",
        "  least:    1",
        "  most:     1000",
        "  default:  10",
        "  value:    10 (default)",
    ]
    worker.waffle.update({"LIMIT": 20}, author="ann", reason="more room")
    lines = run(worker, "describe", "LIMIT").stdout.splitlines()
    assert lines[7] == "  value:    20 (stored)"
    assert re.fullmatch(r"  changed:  20..-..-.. ..:.. by ann, revision 1: more room", lines[8])
    assert lines[10].split() == ["REV", "WHEN", "WHO", "OLD", "NEW", "REASON"]
    assert lines[11].split()[3:] == ["ann", "default", "20", "more", "room"]
    shown = json.loads(run(worker, "describe", "LIMIT", "--json").stdout)
    assert (shown["value"], shown["history"][0]["author"]) == (20, "ann")
    worker.state.store.write({"LIMIT": "5000"})
    assert "what is stored does not fit" in run(worker, "describe", "LIMIT").stderr
    run(worker, "describe", "LIMITS", status=1)


def test_list_as_json_has_everything(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    listed = {item["name"]: item for item in json.loads(run(worker, "list", "--json").stdout)}
    assert list(listed) == list(CONFS)
    assert listed["LIMIT"]["value"] == 20
    assert listed["LIMIT"]["origin"] == "stored"
    assert listed["LIMIT"]["max"] == 1000
    assert listed["SITENAME"]["desc"] == "Name of the site"


def test_get_prints_what_set_takes(make_worker: MakeWorker) -> None:
    worker = make_worker(confs={**CONFS, "TAGS": {"desc": "Words", "default": ["a"]}})
    assert run(worker, "get", "SITENAME").stdout == "Shop\n"
    assert run(worker, "get", "TAGS").stdout == '["a"]\n'
    assert run(worker, "get", "LIMIT", "TAGS").stdout == 'LIMIT=10\nTAGS=["a"]\n'
    assert json.loads(run(worker, "get", "LIMIT", "TAGS", "--json").stdout) == {
        "LIMIT": 10,
        "TAGS": ["a"],
    }
    run(worker, "set", 'TAGS=["b", "c"]')
    assert worker.waffle.conf["TAGS"] == ["b", "c"]


def test_get_refuses_an_unknown_name(make_worker: MakeWorker) -> None:
    result = run(make_worker(), "get", "LIMITS", status=1)
    assert result.stdout == ""
    assert "LIMITS: not a declared setting; did you mean LIMIT?" in result.stderr


def test_commands_see_what_other_processes_wrote(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()
    other.waffle.update({"LIMIT": 20})
    assert run(worker, "get", "LIMIT").stdout == "20\n"


def test_set_changes_several_settings_at_once(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()
    result = run(worker, "set", "LIMIT=20", "SITENAME=a=b", "--reason", "more room")
    assert result.stdout == 'LIMIT: default → 20\nSITENAME: default → "a=b"\nrevision 1\n'
    assert (other.get("LIMIT"), other.get("SITENAME")) == (20, "a=b")
    item = worker.waffle.history(name="LIMIT")[0]
    assert (item.author, item.reason) == ("ann", "more room")
    run(worker, "set", "LIMIT=30", "--author", "bob")
    assert worker.waffle.history(limit=1)[0].author == "bob"


def test_set_reads_json_when_it_is_told(make_worker: MakeWorker) -> None:
    worker = make_worker()
    run(worker, "set", "--json", 'SITENAME="5"')
    assert worker.waffle.conf["SITENAME"] == "5"
    result = run(worker, "set", "--json", 'LIMIT="5"', "SITENAME=x", status=1)
    assert "LIMIT: " in result.stderr
    assert "SITENAME: " in result.stderr


def test_set_names_every_problem_on_a_line_and_writes_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker()
    result = run(worker, "set", "LIMIT=0", "SITENAM=x", "SITENAME=ok", status=1)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: refused, nothing was written:",
        "  LIMIT: it must be at least 1, got 0",
        "  SITENAM: not a declared setting; did you mean SITENAME?",
    ]
    assert worker.waffle.revision == 0


def test_conflict_has_an_exit_status_of_its_own(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    for arguments in (
        ["set", "LIMIT=30"],
        ["set", "LIMIT=20"],
        ["set", "LIMIT=30", "--dry-run"],
        ["reset", "LIMIT"],
        ["rollback", "0"],
        ["prune"],
    ):
        result = run(worker, *arguments, "--expect-revision", "0", status=3)
        assert result.stdout == ""
        assert "expected revision 0, but the store is at 1" in result.stderr
    assert worker.waffle.revision == 1
    run(worker, "set", "LIMIT=30", "--expect-revision", "1")


def test_dry_run_shows_and_writes_nothing(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    file = tmp_path / "settings.json"
    file.write_text('{"LIMIT": 30}')
    for arguments, line in (
        (["set", "LIMIT=30"], "LIMIT: 20 → 30"),
        (["import", str(file)], "LIMIT: 20 → 30"),
        (["reset", "LIMIT"], "LIMIT: 20 → default"),
        (["rollback", "0"], "LIMIT: 20 → default"),
    ):
        assert run(worker, *arguments, "--dry-run").stdout.splitlines() == [
            line,
            "not written (--dry-run), the settings are at revision 1",
        ]
    assert worker.waffle.revision == 1


def test_change_that_changes_nothing_makes_no_revision(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    for arguments in (["set", "LIMIT=20"], ["reset", "SITENAME"], ["rollback", "1"], ["prune"]):
        result = run(worker, *arguments)
        assert result.stdout == "nothing to change, the settings are at revision 1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["set"],
        ["set", "LIMIT=1", "LIMIT=2"],
        ["get"],
        ["reset"],
        ["reset", "--all", "LIMIT"],
        ["rollback"],
        ["rollback", "x"],
        ["rollback", "-1"],
        ["history", "--limit", "0"],
        ["import", "missing.json"],
        ["export", "--format", "yaml"],
        ["nonsense"],
    ],
)
def test_wrong_command_line_has_status_2(make_worker: MakeWorker, arguments: list[str]) -> None:
    run(make_worker(), *arguments, status=2)


def test_set_asks_for_a_value_that_is_not_given(make_worker: MakeWorker) -> None:
    worker = make_worker()
    result = run(worker, "set", "TOKEN", "LIMIT=20", input=f"{SECRET}\n")
    assert worker.waffle.conf["TOKEN"] == SECRET
    assert SECRET not in result.output
    result = run(worker, "set", "TOKENS", status=1, input="")
    assert "did you mean TOKEN?" in result.stderr


def test_value_is_read_from_a_file_or_standard_input(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker()
    key = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    file = tmp_path / "token"
    file.write_text(f"{key}\n")
    run(worker, "set", f"TOKEN=@{file}")
    assert worker.waffle.conf["TOKEN"] == key
    run(worker, "set", "TOKEN=-", "LIMIT=5", input="one\ntwo\n\n")
    assert worker.waffle.conf["TOKEN"] == "one\ntwo\n"
    run(worker, "set", "TOKEN", input=f"{key}\n")
    assert worker.waffle.conf["TOKEN"] == key
    run(worker, "set", "SITENAME=@@shop", "--json", status=1)
    run(worker, "set", "SITENAME=@@shop")
    assert worker.waffle.conf["SITENAME"] == "@shop"
    run(worker, "set", "SITENAME=")
    assert worker.waffle.conf["SITENAME"] == ""


def test_no_value_at_all_is_refused(
    make_worker: MakeWorker, tmp_path: Path, on_terminal: OnTerminal
) -> None:
    worker = make_worker()
    empty = tmp_path / "empty"
    empty.touch()
    for arguments in (["TOKEN"], ["TOKEN=-"], [f"TOKEN=@{empty}"], [f"TOKEN=@{tmp_path}/none"]):
        result = run(worker, "set", *arguments, "LIMIT=20", status=1, input="")
        assert "TOKEN: " in result.stderr
        assert "nothing was written" in result.stderr
    assert (
        "both read standard input"
        in run(worker, "set", "TOKEN", "SITENAME=-", status=2, input="x").stderr
    )
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert "it is not UTF-8" in run(worker, "set", f"TOKEN=@{tmp_path}/bytes", status=1).stderr
    run(worker, "set", "TOKEN", status=1, input=b"\xff")
    on_terminal()
    assert "TOKEN: there is no value" in run(worker, "set", "TOKEN", status=1, input="\n").stderr
    assert worker.waffle.revision == 0


def test_device_that_has_no_end_is_no_value(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    monkeypatch.setattr("uwsgi_waffle.cli.input._MOST", 10_000)
    for argument in ("SITENAME=@/dev/zero", "SITENAME=-"):
        result = run(worker, "set", argument, status=1, input="x" * 10_001)
        assert "has no end, or is far longer than a setting may be" in result.stderr
    run(worker, "set", "SITENAME=-", input="x" * 10_000)
    assert len(worker.waffle.conf["SITENAME"]) == 10_000


def test_value_that_the_locale_has_spoilt_names_the_locale(make_worker: MakeWorker) -> None:
    # As Python reads a word of the command line that is not in the locale's encoding.
    for name in ("SITENAME", "TOKEN"):
        result = run(make_worker(), "set", f"{name}=Z\udcc3\udcbcrich", status=1)
        assert f"{name}: it must be text that UTF-8 can write" in result.stderr
        assert "set LC_ALL=C.UTF-8" in result.stderr
        assert "rich" not in result.stderr


def test_what_undoes_much_asks_first(make_worker: MakeWorker, on_terminal: OnTerminal) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    worker.state.store.write({"GONE": "1"})
    commands = {"prune": "GONE: ******** → default", "reset --all": "LIMIT: 20 → default"}
    # Someone else's setting is named, too: it was there at revision 0 as it is now.
    for command in commands:
        result = run(worker, *command.split(), status=2)
        assert "repeat it with --yes" in result.stderr
    on_terminal()
    for command, shown in commands.items():
        result = run(worker, *command.split(), status=1, input="n\n")
        assert result.stdout.splitlines()[0] == shown
        assert "Aborted!" in result.stderr
    assert worker.waffle.revision == 2
    run(worker, "prune", "--dry-run")
    assert run(worker, "prune", input="y\n").stdout.endswith("revision 3\n")
    run(worker, "rollback", "0", status=1, input="n\n")
    assert run(worker, "rollback", "0", "LIMIT").stdout.endswith("revision 4\n")
    run(worker, "set", "LIMIT=30")
    assert run(worker, "rollback", "0", "--yes").stdout.endswith("revision 6\n")
    # There is nothing to ask about.
    run(worker, "reset", "--all")


def test_what_was_asked_about_is_what_is_written(
    make_worker: MakeWorker, on_terminal: OnTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"LIMIT": 20})

    def confirm(*args: Any, **options: Any) -> bool:
        other.update(LIMIT=30)
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    on_terminal()
    run(worker, "reset", "--all", status=3)
    assert other.get("LIMIT") == 30


def test_reset_puts_back_to_the_defaults(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20, "SITENAME": "New"})
    worker.state.store.write({"GONE": "1"})
    run(worker, "reset", "LIMIT")
    assert dict(worker.waffle.conf) == {"SITENAME": "New", "LIMIT": 10, "TOKEN": "hush"}
    run(worker, "reset", "--all", "--yes")
    assert worker.state.snapshot.stored == {"GONE": "1"}
    run(worker, "reset", "LIMITS", status=1)


def test_history_tells_who_when_what_and_why(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20}, author="ann", reason="more room")
    worker.waffle.update({"SITENAME": "New", "LIMIT": 30}, author="bob")
    lines = run(worker, "history").stdout.splitlines()
    assert lines[0].split() == ["REV", "WHEN", "WHO", "NAME", "OLD", "NEW", "REASON"]
    cells = [line.split() for line in lines[1:]]
    assert [row[0:1] + row[3:] for row in cells] == [
        ["2", "bob", "LIMIT", "20", "30"],
        ["2", "bob", "SITENAME", "default", '"New"'],
        ["1", "ann", "LIMIT", "default", "20", "more", "room"],
    ]
    assert len(run(worker, "history", "LIMIT").stdout.splitlines()) == 3
    limited = run(worker, "history", "SITENAME", "--limit", "1").stdout.splitlines()
    assert "REASON" not in limited[0]
    newest = json.loads(run(worker, "history", "--json").stdout)[0]
    assert (newest["revision"], newest["old"], newest["new"]) == (2, "20", "30")
    run(worker, "history", "LIMITS", status=1)
    assert run(worker, "history", "TOKEN").stdout.startswith("REV")


def test_history_can_be_narrowed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    for limit, author in ((1, "ann"), (2, "bob"), (3, "ann")):
        worker.waffle.update({"LIMIT": limit}, author=author)
    worker.waffle.update({"SITENAME": "New"}, author="ann")

    def shown(*arguments: str, status: int = 0) -> list[int]:
        result = run(worker, "history", "--json", *arguments, status=status)
        return [item["revision"] for item in json.loads(result.stdout)] if not status else []

    assert shown("--author", "ann") == [4, 3, 1]
    assert shown("--author", "ann", "--name", "LIMIT") == [3, 1]
    assert shown("--author", "ann", "--limit", "1") == [4]
    assert shown("--revision", "2") == [2]
    assert shown("--revision", "9") == []
    for since in ("1h", "30m", "PT5M", "2020-01-01", "2020-01-01T12:00", "2020-01-01T12:00:00Z"):
        assert shown("--since", since) == [4, 3, 2, 1]
    tomorrow = datetime.now() + timedelta(days=1)
    assert shown("--since", f"{tomorrow:%Y-%m-%d}") == []
    shown("--since", "yesterday", status=2)
    shown("LIMIT", "--name", "TOKEN", status=2)
    assert shown("LIMIT", "--name", "LIMIT") == [3, 2, 1]


def test_history_is_searched_as_far_as_it_goes(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 1}, author="ann")
    for limit in range(2, 300):
        worker.state.store.write({"LIMIT": str(limit)}, author="bob")
    for arguments in (["--author", "ann"], ["--revision", "1"]):
        (item,) = json.loads(run(worker, "history", "--json", *arguments).stdout)
        assert (item["revision"], item["author"]) == (1, "ann")


def test_rollback_restores_and_says_what(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    worker.waffle.update({"LIMIT": 30, "SITENAME": "New"})
    assert run(worker, "rollback", "1").stdout == (
        'LIMIT: 30 → 20\nSITENAME: "New" → default\nrevision 3\n'
    )
    item = worker.waffle.history(limit=1)[0]
    assert (item.author, item.reason) == ("ann", "rollback to revision 1")
    run(worker, "rollback", "2", "SITENAME")
    assert dict(worker.waffle.conf) == {"SITENAME": "New", "LIMIT": 20, "TOKEN": "hush"}
    assert "there is no revision 9" in run(worker, "rollback", "9", status=1).stderr
    run(worker, "rollback", "2", "GONE", status=1)


def test_export_and_import_in_both_formats(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20, "SITENAME": "New"})
    for format_ in ("json", "toml"):
        file = tmp_path / f"settings.{format_}"
        file.write_text(run(worker, "export", "--format", format_).stdout)
        worker.waffle.reset(["LIMIT", "SITENAME"])
        result = run(worker, "import", str(file), "--reason", "moved")
        assert "LIMIT: default → 20" in result.stdout
        assert "TOKEN: masked in the file, so it stays as it is" in result.stderr
        assert worker.waffle.conf["SITENAME"] == "New"
        assert run(worker, "import", str(file)).stdout.startswith("nothing to change")
    assert worker.waffle.history(limit=1)[0].reason == "moved"
    assert json.loads(run(worker, "export", "--stored").stdout) == {"LIMIT": 20, "SITENAME": "New"}


def test_import_reads_the_standard_input(make_worker: MakeWorker) -> None:
    worker = make_worker()
    run(worker, "import", "-", input='{"LIMIT": 20}')
    run(worker, "import", "-", "--format", "toml", input='SITENAME = "New"')
    assert dict(worker.waffle.conf) == {"SITENAME": "New", "LIMIT": 20, "TOKEN": "hush"}
    assert "it is not JSON" in run(worker, "import", "-", input="LIMIT", status=1).stderr
    assert "LIMIT: " in run(worker, "import", "-", input='{"LIMIT": 0}', status=1).stderr


def test_prune_removes_what_is_not_declared(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"TOKEN": SECRET, "LIMIT": 20})
    worker = make_worker(confs={"SITENAME": CONFS["SITENAME"]})
    result = run(worker, "prune", "--dry-run")
    assert result.stdout.splitlines()[:2] == [
        "LIMIT: ******** → default",
        "TOKEN: ******** → default",
    ]
    run(worker, "prune", "--yes")
    assert worker.state.snapshot.stored == {}


SECRET_FREE = [
    ["list"],
    ["list", "--json"],
    ["describe", "TOKEN"],
    ["describe", "TOKEN", "--json"],
    ["history"],
    ["history", "TOKEN", "--json"],
    ["export"],
    ["export", "--format", "toml"],
    ["export", "--stored"],
    ["set", "TOKEN=other-secret", "--dry-run"],
    ["reset", "TOKEN", "--dry-run"],
    ["rollback", "1", "--dry-run"],
    ["doctor"],
    ["doctor", "--json"],
]


@pytest.mark.parametrize("arguments", SECRET_FREE, ids=" ".join)
def test_secret_is_shown_only_when_it_is_asked_for(
    make_worker: MakeWorker, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    worker = make_worker()
    worker.waffle.update({"TOKEN": "first-secret"})
    worker.waffle.update({"TOKEN": SECRET})
    result = worker.app.test_cli_runner().invoke(group, arguments)
    assert result.exit_code == 0
    for secret in ("first-secret", SECRET, "hush", "other-secret"):
        assert secret not in result.output + result.stderr + caplog.text
    if arguments[0] != "doctor":
        assert MASK in result.stdout
        assert SECRET in run(worker, *arguments, "--show-secrets").stdout


@pytest.mark.parametrize("arguments", [["TOKEN"], ["LIMIT", "TOKEN"], ["TOKEN", "--json"]])
def test_get_of_a_secret_fails_unless_it_is_asked_for(
    make_worker: MakeWorker, arguments: list[str]
) -> None:
    worker = make_worker()
    worker.waffle.update({"TOKEN": SECRET})
    result = run(worker, "get", *arguments, status=1)
    assert result.stdout == ""
    assert result.stderr == "Error: TOKEN: secret, printed only by --show-secrets\n"
    assert SECRET in run(worker, "get", *arguments, "--show-secrets").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", f"TOKEN={SECRET}"],
        ["set", "--json", f'TOKEN="{SECRET}"'],
        ["set", "--json", f"TOKEN={SECRET}"],
        ["import", "-"],
        ["rollback", "1"],
    ],
    ids=" ".join,
)
def test_refusal_shows_no_secret(make_worker: MakeWorker, arguments: list[str]) -> None:
    make_worker().waffle.update({"TOKEN": SECRET})
    make_worker().waffle.update({"TOKEN": "x"})
    worker = make_worker(confs={"TOKEN": {**CONFS["TOKEN"], "choices": ["x", "hush"]}})
    result = run(worker, *arguments, status=1, input=json.dumps({"TOKEN": SECRET}))
    assert "TOKEN" in result.stderr
    assert SECRET not in result.output + result.stderr


def test_change_that_cannot_be_announced_stands_and_is_reported(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def announce(self: FileNotifier, revision: int, epoch: str = "", mark: str = "") -> None:
        raise NotifierError("no way")

    worker = make_worker()
    monkeypatch.setattr(FileNotifier, "announce", announce)
    result = run(worker, "set", "LIMIT=20")
    assert "revision 1" in result.stdout
    assert "revision 1 is committed, but announcing by watch file failed" in result.stderr


def test_store_that_fails_is_an_error_not_a_default(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    store.error = StoreUnavailable("the database is away")
    for arguments in (["list"], ["get", "LIMIT"], ["set", "LIMIT=20"], ["history"], ["export"]):
        result = run(worker, *arguments, status=1)
        assert result.stdout == ""
        assert "Error: the database is away" in result.stderr


def test_change_whose_outcome_is_unknown_is_not_called_unmade(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    run(worker, "list")
    store.errors["write"] = OutcomeUnknown("the connection broke")
    result = run(worker, "set", "LIMIT=20", status=4)
    assert result.stdout == ""
    assert result.stderr == (
        "Error: the connection broke\n"
        "The change may have been made, or not: see `flask waffle history` before you repeat it\n"
    )


def test_watch_prints_changes_as_they_happen(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = make_worker(WAFFLE_POLL_INTERVAL=0.01), make_worker()
    printed: list[str] = []
    original = click.echo

    def echo(message: Any = None, **options: Any) -> None:
        original(message, **options)
        printed.append(str(message))
        if len(printed) == 1:
            raws = other.state.declarations.encode({"LIMIT": 20, "TOKEN": SECRET})
            other.state.commit(raws, author="bob", reason="room", expected_revision=None)
        elif len(printed) == 3:
            other.state.commit({"LIMIT": None}, author=None, reason=None, expected_revision=None)
        elif len(printed) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(click, "echo", echo)
    run(worker, "watch")
    assert printed[0] == "watching from revision 0; Ctrl-C ends"
    assert re.fullmatch(
        r"20..-..-.. ..:..:.. revision 1 by bob: LIMIT: default → 20 \(room\)", printed[1]
    )
    assert printed[2].endswith("revision 1 by bob: TOKEN: default → ******** (room)")
    assert printed[3].endswith("revision 2: LIMIT: 20 → default")
    assert not worker.waffle.status().watcher_alive


def test_app_without_the_extension_is_told(tmp_path: Path) -> None:
    app = Flask("bare", instance_path=str(tmp_path))
    result = app.test_cli_runner().invoke(group, ["list"])
    assert result.exit_code == 1
    assert "'bare' has no WaffleConf: call init_app(app) first" in result.output


def test_app_that_cannot_be_set_up_is_told_without_a_traceback(tmp_path: Path) -> None:
    def create_app() -> Flask:
        app = Flask("bad", instance_path=str(tmp_path))
        app.config["WAFFLE_CONFS"] = {"LIMIT": {"default": 1}}
        WaffleConf(app)
        return app

    with pytest.raises(ConfigurationError):
        create_app()
    runner = Flask("other").test_cli_runner()
    result = runner.invoke(group, ["list"], obj=ScriptInfo(create_app=create_app))
    assert result.exit_code == 1
    assert "Error: WAFFLE_CONFS['LIMIT']: 'desc' is missing" in result.output


def completions(worker: Worker, *arguments: str) -> list[str]:
    info = ScriptInfo(create_app=lambda: worker.app)
    shell = ShellComplete(group, {"obj": info}, "waffle", "_WAFFLE_COMPLETE")
    *words, incomplete = arguments
    return [item.value for item in shell.get_completions(list(words), incomplete)]


def test_names_of_settings_complete(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert completions(worker, "get", "") == list(CONFS)
    assert completions(worker, "get", "LI") == ["LIMIT"]
    assert completions(worker, "history", "T") == ["TOKEN"]
    assert completions(worker, "reset", "LIMIT", "S") == ["SITENAME"]
    assert completions(worker, "rollback", "3", "S") == ["SITENAME"]
    assert completions(worker, "set", "S") == ["SITENAME="]
    assert "history" in completions(worker, "")


def test_completion_is_silent_about_an_app_that_fails() -> None:
    def create_app() -> Flask:
        raise RuntimeError("broken")

    shell = ShellComplete(
        group, {"obj": ScriptInfo(create_app=create_app)}, "waffle", "_WAFFLE_COMPLETE"
    )
    assert shell.get_completions(["get"], "L") == []


@pytest.mark.parametrize("commands", [group, main], ids=["flask waffle", "uwsgi_waffle"])
def test_list_of_the_commands_has_a_whole_sentence_for_each(commands: click.Group) -> None:
    shown = CliRunner().invoke(commands, ["--help"], terminal_width=80).stdout
    assert "..." not in shown.partition("Commands:")[2]


def test_each_command_tells_its_purpose_and_its_arguments(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert "3  someone else changed the settings first" in run(worker, "--help").stdout
    for name, command in group.commands.items():
        text = run(worker, name, "--help").stdout
        assert text.startswith(f"Usage: group {name}")
        assert command.help, name


def test_every_command_is_explained_in_the_documentation() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "cli.md").read_text()
    for name, command in group.commands.items():
        assert f"flask waffle {name}" in text, name
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else []:
                assert option in text, f"{name} {option}"


def test_login_name_has_a_fallback(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    worker = make_worker()
    run(worker, "set", "LIMIT=20")
    assert worker.waffle.history()[0].author == f"uid {os.getuid()}"


def test_author_is_the_person_who_called_sudo(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("SUDO_USER", "ann")
    worker = make_worker()
    run(worker, "set", "LIMIT=20")
    assert worker.waffle.history()[0].author == "ann"


def test_another_module_can_add_a_command(make_worker: MakeWorker) -> None:
    @group.command("extra")
    @click.pass_context
    def extra(ctx: click.Context) -> None:
        click.echo(load_state(ctx).app.name)

    try:
        assert run(make_worker(), "extra").stdout == "shop\n"
    finally:
        del group.commands["extra"]


def test_app_does_not_import_the_command_line(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from flask import Flask\n"
        "from uwsgi_waffle import WaffleConf\n"
        f"app = Flask('x', instance_path={str(tmp_path)!r})\n"
        "WaffleConf(app)\n"
        "names = ('cli', 'doctor', 'operations', 'documents', 'tables', 'checks')\n"
        "sys.exit(any(f'uwsgi_waffle.{name}' in sys.modules for name in names))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_defaults_of_config_and_pins_are_shown_and_kept(make_worker: MakeWorker) -> None:
    make_worker().update(LIMIT=40)
    worker = make_worker(LIMIT=20, SITENAME="Here", WAFFLE_PINNED=["LIMIT"])
    assert run(worker, "list").stdout.splitlines()[1:3] == [
        'SITENAME  "Here"    "Here"    str   config',
        "LIMIT     20        20        int   pinned",
    ]
    assert run(worker, "list", "--changed").stdout.count("\n") == 1
    described = run(worker, "describe", "LIMIT").stdout
    assert "default:  20 (from app.config)" in described
    assert "pinned:   yes" in described
    exported = run(worker, "export")
    assert json.loads(exported.stdout)["LIMIT"] == 20
    assert exported.stderr == "pinned: LIMIT\ndefaults from app.config: SITENAME\n"
    for command in (
        ["set", "LIMIT=5"],
        ["set", "LIMIT=5", "--dry-run"],
        ["reset", "LIMIT"],
        ["rollback", "0", "--yes"],
        ["import", "-"],
    ):
        refused = run(worker, *command, status=1, input='{"LIMIT": 5}')
        assert "LIMIT: it is pinned" in refused.stderr
    assert "nothing to change" in run(worker, "reset", "--all").stdout
    assert worker.waffle.refresh() == 1
