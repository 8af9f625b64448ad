"""``flask waffle``: what each command prints, what it changes, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo

from uwsgi_waffle import (
    ConfigurationError,
    NotifierError,
    OutcomeUnknown,
    StoreUnavailable,
    WaffleConf,
)
from uwsgi_waffle.cli import group
from uwsgi_waffle.cli.base import load_state
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.snapshot import MASK

from ..support.rig import CONFS, MemoryStore, Worker

MakeWorker = Callable[..., Worker]
SECRET = "open-sesame"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOGNAME", "ann")


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


def test_tables_fit_eighty_columns_and_nothing_steers_the_terminal(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    worker.waffle.update(
        {"SITENAME": "wide " * 100}, author="a\x1b[31mb", reason="because\nof " * 9
    )
    worker.waffle.update({"SITENAME": "bell \x07 \x9b31m \u202e"}, author="ann", reason="x")
    for command in ("list", "history"):
        lines = run(worker, command).stdout.splitlines()
        assert all(len(line) <= 80 for line in lines), lines
        assert all(line.isprintable() for line in lines), lines


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


def test_reset_puts_back_to_the_defaults(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20, "SITENAME": "New"})
    worker.state.store.write({"GONE": "1"})
    run(worker, "reset", "LIMIT")
    assert dict(worker.waffle.conf) == {"SITENAME": "New", "LIMIT": 10, "TOKEN": "hush"}
    run(worker, "reset", "--all")
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
    run(worker, "prune")
    assert worker.state.snapshot.stored == {}


SECRET_FREE = [
    ["list"],
    ["list", "--json"],
    ["get", "TOKEN"],
    ["get", "TOKEN", "LIMIT", "--json"],
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
    def announce(self: FileNotifier, revision: int) -> None:
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
            other.state.update({"LIMIT": 20, "TOKEN": SECRET}, author="bob", reason="room")
        elif len(printed) == 3:
            other.state.reset(["LIMIT"])
        elif len(printed) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(click, "echo", echo)
    run(worker, "watch")
    assert printed[0] == "watching from revision 0; Ctrl-C ends"
    assert printed[1].endswith("revision 1 by bob: LIMIT: default → 20 (room)")
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
