"""A check runs, loads, signals, makes and removes nothing that the file names."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    "environment of an environment": "title = x$(TWICE)",
    "standard input": "ini = -",
    "block of the ini that uWSGI is started with": f"if-opt = ini\nini = exec://{TOUCH}\nendif =",
    "command in a quoted file": "title = x@(quoted.txt)",
    "command in a quoted file, by a set": "set = title=x@(quoted.txt)",
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
    (tmp_path / "quoted.txt").write_text(f"y@(exec://{TOUCH})")
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


# What is swapped between the look of the reader and that of uWSGI, and by what.
SWAPS = {
    "the file": ("uwsgi.ini", "x = 1", "[uwsgi]\nini = exec://touch marker\n"),
    "an included file": ("part.ini", "ini = part.ini", "[uwsgi]\nini = exec://touch marker\n"),
    "an inherited file": ("part.ini", "inherit = part.ini", "[uwsgi]\nini = exec://touch marker\n"),
    "a file of a pattern": (
        "part.ini",
        "for-glob = par?.ini\nini = %(_)\nendfor =",
        "[uwsgi]\nini = exec://touch marker\n",
    ),
    "a quoted file": ("one.txt", "title = x@(one.txt)", "y@(exec://touch marker)"),
    "a name in a quoted file": ("one.txt", "inherit = @(one.txt)", f"exec://{TOUCH_INI}"),
    "a condition": ("flag", f"if-exists = flag\nini = exec://{TOUCH}\nendif =", "now"),
    "a condition that is negated": (
        "one.txt",
        f"if-not-file = one.txt\nini = exec://{TOUCH}\nendif =",
        None,
    ),
}


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
@pytest.mark.parametrize(("name", "lines", "evil"), SWAPS.values(), ids=SWAPS)
def test_file_that_is_swapped_between_the_looks_runs_nothing(
    folder: Path,
    parser: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    lines: str,
    evil: str | None,
) -> None:
    (folder / "part.ini").write_text("[uwsgi]\ny = 1\n")
    (folder / "one.txt").write_text("part.ini")
    ask = servers.ask

    def swapping(path: str, env: Mapping[str, str]) -> servers.Server:
        (folder / name).unlink(missing_ok=True)
        if evil is not None:
            (folder / name).write_text(evil)
        return ask(path, env)

    monkeypatch.setattr(servers, "ask", swapping)
    outcome = check(folder, lines)
    assert isinstance(outcome, Report), outcome
    assert outcome.parser.startswith("uWSGI ")
    assert not (folder / "marker").exists()


@pytest.mark.slow
@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_file_that_is_swapped_all_the_time_runs_nothing(folder: Path, parser: str) -> None:
    texts = ["[uwsgi]\nx = 1\n", f"[uwsgi]\nini = exec://{TOUCH}\n"]
    stop = threading.Event()

    def swap() -> None:
        for text in itertools.cycle(texts):
            if stop.is_set():
                break
            (folder / "next").write_text(text)
            os.replace(folder / "next", folder / "uwsgi.ini")

    (folder / "uwsgi.ini").write_text(texts[0])
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        reports = 0
        for _ in range(10):
            with contextlib.suppress(CheckError):
                check_file("uwsgi.ini")
                reports += 1
    finally:
        stop.set()
        thread.join()
    assert reports
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_copy_that_uwsgi_reads_is_private_and_removed(
    folder: Path, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    show_config = servers.show_config

    def looking(server: servers.Server, file: str, *arguments: Any) -> list[tuple[str, str]]:
        seen.append((Path(file), stat.S_IMODE(os.stat(Path(file).parent).st_mode)))
        return show_config(server, file, *arguments)

    monkeypatch.setattr(servers, "show_config", looking)
    check(folder, "x = 1")
    ((copy, mode),) = seen
    assert mode == 0o700
    assert folder not in copy.parents
    assert not copy.parent.exists()


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_refusal_of_uwsgi_names_the_file_and_not_its_copy(folder: Path, parser: str) -> None:
    outcome = check(folder, "strict = true\nini = part.ini\nno-option = 1")
    assert isinstance(outcome, str)
    assert "uwsgi_waffle-" not in outcome


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
@pytest.mark.parametrize(
    "lines",
    [
        "title = @(long.txt)\nx = 1",
        "if-env = BLANK\nx = %(_)\nendif =",
        "if-env = NEWLINE\nx = %(_)\nendif =",
        "x = $(NESTED)|@(one.txt)",
    ],
)
def test_what_no_line_of_a_copy_can_say_is_read_by_the_built_in_reader(
    folder: Path, parser: str, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    (folder / "long.txt").write_text("one\nlazy-apps = true\n")
    (folder / "one.txt").write_text("one")
    monkeypatch.setenv("BLANK", " x ")
    monkeypatch.setenv("NEWLINE", "x\nini = evil.ini")
    monkeypatch.setenv("NESTED", "$(BLANK)")
    outcome = check(folder, lines)
    assert isinstance(outcome, Report), outcome
    assert outcome.parser == "built-in"
    assert any("can't be given to uWSGI" in note for note in outcome.notes)
    assert "W001" in {finding.id for finding in outcome.findings}


@pytest.mark.parametrize("parser", ["uwsgi"], indirect=True)
def test_temporary_folder_with_a_strange_name_makes_the_built_in_reader_take_over(
    folder: Path, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = folder / "a:b%d"
    strange.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(strange))
    outcome = check(folder, "x = 1")
    assert isinstance(outcome, Report)
    assert outcome.parser == "built-in"
    assert list(strange.iterdir()) == []


def test_file_that_becomes_a_pipe_is_refused_and_does_not_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe.ini")
    monkeypatch.setattr(os.path, "isfile", lambda name: True)
    with pytest.raises(CheckError, match="is not a file"):
        check_file("pipe.ini")
