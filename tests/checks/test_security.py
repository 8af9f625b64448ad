"""A check runs, loads, signals, makes and removes nothing that the file names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgi_waffle.checks import CheckError, Report, check_file
from uwsgi_waffle.checks import binary as servers

TOUCH = "touch marker"
# include and inherit pick their reader by the ending.
TOUCH_INI = "touch marker; true .ini"

RUNS_AT_PARSE = {
    "ini": f"ini = exec://{TOUCH}",
    "include": f"include = exec://{TOUCH_INI}",
    "inherit": f"inherit = exec://{TOUCH_INI}",
    "value": f"title = @(exec://{TOUCH})",
    "value of an option": f"processes = @(exec://{TOUCH})",
    "second value": f"title = @(empty.ini) @(exec://{TOUCH})",
    "nested value": f"title = @(@(exec://{TOUCH}))",
    "set": f"set = ini=exec://{TOUCH}",
    "set of set": f"set = set=ini=exec://{TOUCH}",
    "for": "for = exec://touch\tmarker\nini = %(_)\nendfor =",
    "if-env": "if-env = EVIL\nini = %(_)\nendif =",
    "if-opt": f"evil = exec://{TOUCH}\nif-opt = evil\nini = %(_)\nendif =",
    "for-readline": "for-readline = evil.txt\nini = %(_)\nendfor =",
    "magic in a name": f"i%xni = exec://{TOUCH}",
    "unknown magic in a name": f"i%zni = exec://{TOUCH}",
    "name over two lines": f"i%\nni = exec://{TOUCH}",
    "value from the environment": "title = $(EVIL_AT)",
    "value put together by the environment": f"title = @$(EMPTY)(exec://{TOUCH})",
    "inherit from the environment": "inherit = $(EVIL)",
    "inherit of a placeholder": f"evil = exec://{TOUCH_INI}\ninherit = %(evil)",
    "included file": "ini = evil.ini",
    "inherited file": "inherit = evil.ini",
    "section of this file": f"ini = :x\n[x]\nini = exec://{TOUCH}",
    "custom option": f"declare-option = go=ini=exec://{TOUCH}\ngo = 1",
    "another scheme": "ini = call://abort",
    "injected text": "inject-before = evil.ini\nini = empty.ini",
    "yaml": "yaml = evil.yaml",
    "for-readline of a long line": "for-readline = long.txt\nini = %(_)\nendfor =",
    "for-glob of a pattern in C": "for-glob = [^x]v*.ini\nini = %(_)\nendfor =",
    "for-times": f"for-times = +1\nini = exec://{TOUCH}\nendfor =",
    "if-plugin": f"if-plugin = http\nini = exec://{TOUCH}\nendif =",
    "if-not-plugin": f"if-not-plugin = pythonx\nini = exec://{TOUCH}\nendif =",
    "if-hostname-match": f"if-hostname-match = \\A\\N\nini = exec://{TOUCH}\nendif =",
    "if-exists of a magic variable": f"if-exists = %b\nini = exec://{TOUCH}\nendif =",
    "section of the file read last": "ini = section.ini\nini = :x\n[x]\ny = 1",
    "byte that is no text": f"i%\udcffni = exec://{TOUCH}",
    "environment of an environment": "title = $(TWICE)",
    "standard input": "ini = -",
}

RUNS_AFTERWARDS = {
    "exec-asap": f"exec-asap = {TOUCH}",
    "hook-asap": f"hook-asap = exec:{TOUCH}",
    "call-asap": "call-asap = abort",
    "exec-as-user-atexit": f"exec-as-user-atexit = {TOUCH}",
    "hook-as-user-atexit": f"hook-as-user-atexit = exec:{TOUCH}",
    "exec-pre-app": f"exec-pre-app = {TOUCH}",
    "spooler": "spooler = marker",
    "pidfile": "pidfile = marker",
    "logto": "logto = marker",
    "daemonize": "daemonize = marker",
    "master-fifo": "master-fifo = marker",
    "socket": "socket = marker",
    "touch-reload": "touch-reload = marker",
    "flock": "flock = evil.ini",
    "fallback-config": "fallback-config = evil.ini\nstrict = true\nnot-an-option = 1",
    "a plugin": "plugin = ./evil",
    "needed plugins": "need-plugins = ./evil,./worse",
    "dlopen": "dlopen = ./evil.so",
    "build-plugin": "build-plugin = evil",
    "failure after an atexit hook": f"exec-as-user-atexit = {TOUCH}\nspooler = /dev/null/x",
}


@pytest.fixture(params=["uwsgi", "built-in"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "built-in":
        monkeypatch.setattr(servers, "find_binary", lambda given, env: None)
    elif servers.find_binary(None, os.environ) is None:
        if os.environ.get("WAFFLE_REQUIRE_SERVERS") == "1":
            pytest.fail("uWSGI is required by WAFFLE_REQUIRE_SERVERS=1, and is missing")
        pytest.skip("uWSGI is not installed")
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVIL", f"exec://{TOUCH_INI}")
    monkeypatch.setenv("EVIL_AT", f"@(exec://{TOUCH})")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("TWICE", "$(EVIL_AT)")
    monkeypatch.setenv("UWSGI_HOOK_ASAP", f"exec:{TOUCH}")
    (tmp_path / "evil.ini").write_text(f"[uwsgi]\nini = exec://{TOUCH}\n")
    (tmp_path / "evil.txt").write_text(f"exec://{TOUCH}\n")
    (tmp_path / "long.txt").write_text("x" * 1023 + f"exec://{TOUCH}\n")
    (tmp_path / "section.ini").write_text(f"[uwsgi]\n[x]\nini = exec://{TOUCH}\n")
    (tmp_path / "^.ini").write_text("[uwsgi]\n")
    (tmp_path / "xv.ini").write_text("[uwsgi]\n")
    (tmp_path / "evil.yaml").write_text(f"uwsgi:\n  ini: exec://{TOUCH}\n")
    (tmp_path / "empty.ini").write_text("[uwsgi]\n")
    return tmp_path


def check(folder: Path, lines: str, *, allow_exec: bool = False) -> Report | str:
    """Return the report, or why there is none."""
    ini = folder / "uwsgi.ini"
    ini.write_text(f"[uwsgi]\nmaster = true\n{lines}\n", errors="surrogateescape")
    try:
        return check_file(ini, allow_exec=allow_exec)
    except CheckError as exc:
        return str(exc)


@pytest.mark.parametrize("lines", RUNS_AT_PARSE.values(), ids=RUNS_AT_PARSE)
def test_command_in_the_file_is_not_run(folder: Path, parser: str, lines: str) -> None:
    outcome = check(folder, lines)
    assert not (folder / "marker").exists()
    assert isinstance(outcome, str) or outcome.parser == "built-in"


@pytest.mark.parametrize("lines", RUNS_AFTERWARDS.values(), ids=RUNS_AFTERWARDS)
def test_option_with_an_effect_has_none(folder: Path, parser: str, lines: str) -> None:
    before = sorted(p.name for p in folder.iterdir())
    check(folder, lines)
    assert sorted({p.name for p in folder.iterdir()} - {"uwsgi.ini"}) == before


@pytest.mark.parametrize("name", ["stop", "reload", "pause", "suspend", "resume"])
def test_process_of_a_pidfile_gets_no_signal(folder: Path, parser: str, name: str) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        (folder / "live.pid").write_text(str(process.pid))
        check(folder, f"{name} = live.pid")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("more", "allow_exec"),
    [
        ("", False),
        ("", True),
        ("inherit = gone.ini", False),
        ("inherit = gone.ini", True),
        ("spooler = /dev/null/x", False),
    ],
)
def test_pidfile_of_a_live_server_survives_vacuum(
    folder: Path, parser: str, more: str, allow_exec: bool
) -> None:
    (folder / "live.pid").write_text("1")
    check(folder, f"vacuum = true\npidfile = live.pid\n{more}", allow_exec=allow_exec)
    assert (folder / "live.pid").exists()


def test_refusal_names_the_line_and_the_flag(folder: Path) -> None:
    outcome = check(folder, f"processes = 4\nini = exec://{TOUCH}")
    assert isinstance(outcome, str)
    assert f"{folder / 'uwsgi.ini'}:4: 'ini = exec://{TOUCH}'" in outcome


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_command_is_run_by_uwsgi_once_it_is_allowed(folder: Path, parser: str) -> None:
    (folder / "more.ini").write_text("[uwsgi]\nlazy-apps = true\nneed-app = true\n")
    lines = "ini = exec://cat more.ini"
    refused = check(folder, lines)
    assert isinstance(refused, str)
    assert "--allow-exec" in refused
    report = check(folder, lines, allow_exec=True)
    assert isinstance(report, Report)
    assert report.parser.startswith("uWSGI ")
    assert not {"W001", "W004"} & {f.id for f in report.findings}


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_plugin_line_makes_the_built_in_reader_take_over(folder: Path, parser: str) -> None:
    report = check(folder, "plugin = ./evil")
    assert isinstance(report, Report)
    assert report.parser == "built-in"
    assert any("--allow-plugins" in note for note in report.notes)


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_plugin_is_asked_for_once_it_is_allowed(folder: Path, parser: str) -> None:
    ini = folder / "uwsgi.ini"
    ini.write_text("[uwsgi]\nneed-plugin = ./not-there\n")
    with pytest.raises(CheckError, match="not-there"):
        check_file(ini, allow_plugins=True)


def test_pipe_is_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "pipe.ini")
    with pytest.raises(CheckError, match="is not a file"):
        check_file("pipe.ini")


def test_file_that_includes_itself_is_refused(folder: Path) -> None:
    (folder / "loop.ini").write_text("[uwsgi]\nini = loop.ini\n")
    with pytest.raises(CheckError, match="includes itself"):
        check_file("loop.ini")


def test_endless_nesting_is_refused(folder: Path) -> None:
    outcome = check(folder, "set = " + "set=" * 50_000)
    assert isinstance(outcome, str)
    assert "too deeply" in outcome or "grow beyond" in outcome
