"""Commands as a stranger types them: wrong, on nothing, or for another store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.app_state import WaffleState
from uwsgi_waffle.cli import group
from uwsgi_waffle.cli.base import CONFLICT, UNKNOWN

from ..support.rig import CONFS

Run = Callable[..., Result]
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs a command on an app that has no store yet."""

    def run(*arguments: str, status: int, confs: Any = CONFS) -> Result:
        app = Flask("shop", instance_path=str(tmp_path))
        app.config["WAFFLE_CONFS"] = confs
        WaffleConf(app)
        result = app.test_cli_runner().invoke(group, list(arguments))
        assert result.exit_code == status, result.output + repr(result.exception)
        return result

    return run


@pytest.mark.parametrize("command", ["get", "describe", "history"])
def test_command_that_reads_does_not_say_of_a_wrong_name_that_nothing_was_written(
    run: Run, command: str
) -> None:
    said = run(command, "LIMITT", status=1).stderr
    assert said == "Error: LIMITT: not a declared setting; did you mean LIMIT?\n"


def test_value_without_a_name_is_a_wrong_command_line(run: Run) -> None:
    assert "'=5' names no setting: write NAME=VALUE" in run("set", "=5", status=2).stderr


@pytest.mark.parametrize(
    ("command", "status"), [(["list"], 0), (["list", "--changed"], 0), (["edit"], 1)]
)
def test_app_without_settings_is_named_where_there_is_nothing_to_show(
    run: Run, command: list[str], status: int
) -> None:
    said = run(*command, status=status, confs={}).stderr
    assert said.endswith("this app declares no settings: see WAFFLE_CONFS\n")


def test_empty_list_says_why(run: Run) -> None:
    assert run("list", "nothing*", status=0).stderr == "no setting matches\n"
    assert run("list", "--changed", status=0).stderr == "every setting is at its default\n"


@pytest.mark.parametrize(
    "command",
    [
        ["get", ""],
        ["describe", ""],
        ["history", ""],
        ["history", "--name", ""],
        ["reset", "LIMIT", ""],
        ["rollback", "0", ""],
        ["edit", ""],
        ["diff", ""],
        ["workers", "--forget", ""],
    ],
)
def test_name_of_a_variable_that_is_not_set_is_a_wrong_command_line(
    run: Run, command: list[str]
) -> None:
    assert run(*command, status=2).stderr.endswith(": it is empty\n")


def test_value_from_no_file_is_a_wrong_command_line(run: Run) -> None:
    said = run("set", "LIMIT=@", status=2).stderr
    assert said.endswith("Error: LIMIT=@ names no file; a string that begins with @ is @@…\n")


def test_backup_into_no_file_is_a_wrong_command_line(run: Run) -> None:
    assert "FILE is empty: name a file" in run("backup", "", status=2).stderr


def test_history_may_be_asked_for_more_entries_than_any_number_of_a_database(run: Run) -> None:
    run("set", "LIMIT=20", status=0)
    assert "LIMIT" in run("history", "--limit", "9" * 30, status=0).stdout


def test_going_back_to_before_the_first_change_of_no_store_changes_nothing(run: Run) -> None:
    said = run("rollback", "0", status=0).stdout
    assert said == "nothing to change, the settings are at revision 0\n"


def test_wait_for_no_process_says_so(run: Run) -> None:
    said = run("set", "LIMIT=20", "--wait", "1", status=0).stdout
    assert said.endswith("revision 1\nno process serves this app\n")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["diff"], "ONE"),
        (["diff", "{file}"], "OTHER"),
        (["copy", "--to"], "--to"),
        (["copy", "--to", "sqlite:///:memory:", "--from"], "--from"),
        (["create-tables", "--url"], "--url"),
    ],
)
def test_url_that_is_wrong_is_named_as_it_was_given(
    run: Run, command: list[str], named: str, tmp_path: Path
) -> None:
    file = tmp_path / "one.json"
    file.write_text("{}")
    command = [each.format(file=file) for each in command]
    for url, says in (
        ("bogus://ann:s3cret@host", f"{named} names no store that is known"),
        ("sqlite:///no/such.db", f"create it, or name another file in {named}\n"),
        ("redis://h:x", f"{named} does not name a Redis"),
        ("redis://127.0.0.1:1/0", f"check that it is running, and that {named} names it\n"),
    ):
        said = run(*command, url, status=1).stderr
        assert says in said
        assert "WAFFLE_STORE_URL" not in said
        assert "s3cret" not in said


def test_file_that_can_not_be_compared_is_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text("{]")
    assert run("diff", str(file), status=1).stderr.startswith(f"Error: {file}: it is not JSON: ")
    file.write_text("")
    assert (
        run("diff", str(file), status=1).stderr == f"Error: {file}: it is not JSON: it is empty\n"
    )


@pytest.mark.parametrize(
    "command", [["list"], ["set", "LIMIT=5"], ["doctor"], ["recreate", "--empty", "--yes"]]
)
def test_store_that_fails_is_reported_once_where_no_log_is_set_up(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\n"
        "from uwsgi_waffle import WaffleConf\n"
        f"app = Flask('shop', instance_path={str(tmp_path)!r})\n"
        "app.config['WAFFLE_STORE_URL'] = 'redis://127.0.0.1:1/0'\n"
        "app.config['WAFFLE_CONFS'] = {'LIMIT': {'desc': 'd', 'default': 1}}\n"
        "WaffleConf(app)\n"
    )
    # Not within pytest, which sets up logging.
    done = subprocess.run(
        [sys.executable, "-m", "flask", "waffle", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("check that it is running") == 1


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("commit", ["set", "LIMIT=5"]),
        ("commit", ["rollback", "0", "--yes"]),
        ("replace", ["restore", "{backup}", "--yes"]),
    ],
)
def test_ctrl_c_within_the_commit_does_not_say_that_nothing_was_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, command: list[str]
) -> None:
    backup = str(tmp_path / "backup.json")
    run("backup", backup, status=0)
    run("set", "LIMIT=20", status=0)
    real = getattr(WaffleState, method)

    def interrupted(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(WaffleState, method, interrupted)
    said = run(*(each.format(backup=backup) for each in command), status=UNKNOWN).stderr
    assert "stopped within the commit\nThe change may have been made, or not" in said
    assert json.loads(run("get", "LIMIT", "--json", status=0).stdout) != {"LIMIT": 20}


def test_status_of_waiting_is_named_where_a_command_can_wait(run: Run) -> None:
    for name, command in group.commands.items():
        waits = any(parameter.name == "wait_s" for parameter in command.params)
        assert waits or "within --wait" not in run(name, "--help", status=0).stdout, name


APP = """
from flask import Flask
from uwsgi_waffle import WaffleConf

app = Flask("shop", instance_path={folder!r})
app.config["WAFFLE_CONFS"] = {{
    "LIMIT": {{"desc": "d", "default": 1}},
    "TOKEN": {{"desc": "d", "default": "x", "secret": True}},
    "SITENAME": {{"desc": "Über € 😀", "default": "x"}},
}}
WaffleConf(app)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return what runs ``flask waffle`` with what a shell does to its streams."""
    (tmp_path / "app.py").write_text(APP.format(folder=str(tmp_path)), encoding="utf-8")

    def shell(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'"$0" -m flask waffle {command}', sys.executable],
            cwd=tmp_path,
            env={**os.environ, **environ},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return shell


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("list >&-", 0, ""),
        ("set LIMIT=2 >&-", 0, ""),
        ("set TOKEN <&-", 1, "Error: TOKEN: there is no value, and nothing was written"),
        ("import - <&-", 1, "Error: it is not JSON: it is empty"),
        ("rollback 0 <&-", 0, ""),
    ],
)
def test_stream_that_is_closed_is_an_empty_one(
    shell: Shell, command: str, status: int, says: str
) -> None:
    done = shell(command)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr


def test_change_whose_output_can_not_be_written_is_no_failure(shell: Shell) -> None:
    done = shell("set LIMIT=2 > /dev/full")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "the change is made, but can't be printed: No space left on device\n"
    assert shell("get LIMIT").stdout == "2\n"


def test_status_stands_where_nothing_at_all_can_be_written(shell: Shell) -> None:
    assert shell("set LIMIT=2 > /dev/full 2>&1").returncode == 0
    assert shell("get LIMIT").stdout == "2\n"
    assert shell("set LIMIT=3 --expect-revision 9 2> /dev/full").returncode == CONFLICT


@pytest.mark.parametrize(
    "command", ["--help", "list", "list --help", "list --json", "set LIMIT=3 --dry-run", "backup -"]
)
def test_output_that_can_not_be_written_is_no_traceback(shell: Shell, command: str) -> None:
    done = shell(f"{command} > /dev/full")
    assert done.returncode == 1, done.stderr
    assert done.stderr == "Error: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("command", ["import", "restore --yes"])
def test_file_that_can_not_be_read_is_named(shell: Shell, command: str) -> None:
    # It opens, and its first byte is no memory.
    done = shell(f"{command} /proc/self/mem")
    assert done.returncode == 1, done.stderr
    assert done.stderr == "Error: /proc/self/mem can't be read: Input/output error\n"


@pytest.mark.parametrize("source", ["/dev/zero", "- < /dev/zero"])
@pytest.mark.parametrize("command", ["import", "restore --yes"])
def test_device_is_no_document(shell: Shell, command: str, source: str) -> None:
    done = shell(f"{command} {source}")
    assert done.returncode == 1, done.stderr
    name = "<stdin>" if "<" in source else source
    assert done.stderr == f"Error: {name} is a device, which holds no document\n"


def test_device_can_not_be_compared(shell: Shell) -> None:
    done = shell("diff /dev/zero")
    assert done.returncode == 1, done.stderr
    assert done.stderr == "Error: /dev/zero is a device, which holds no document\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_document_is_utf_8_whatever_the_locale_is(shell: Shell, encoding: str) -> None:
    assert shell("set SITENAME='ü € 😀'", PYTHONUTF8="1").returncode == 0
    for command in (
        "export",
        "backup -",
        "list --json",
        "get SITENAME --json",
        "describe SITENAME --json",
        "history --json",
    ):
        done = shell(command, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
        assert "ü € 😀" in done.stdout
    assert (
        'SITENAME = "ü € 😀"\n' in shell("export --format toml", PYTHONIOENCODING=encoding).stdout
    )
