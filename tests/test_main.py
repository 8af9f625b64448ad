"""The command line: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from uwsgi_waffle import __version__
from uwsgi_waffle.__main__ import main
from uwsgi_waffle.checks import RULES
from uwsgi_waffle.checks import binary as servers
from uwsgi_waffle.errors import ConfigurationError
from uwsgi_waffle.ini import SNIPPETS, snippet_path, snippet_text

from .support.rig import Worker

ROOT = str(Path(__file__).resolve().parent.parent)
BAD = "[uwsgi]\nlazy_apps = true\nneed-app = true\n"


@pytest.fixture(autouse=True)
def built_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "find_binary", lambda given, env: None)
    for name in [name for name in os.environ if name.startswith("UWSGI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("bad.ini").write_text(BAD)
    Path("good.ini").write_text(snippet_text())


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == status, result.output
    return result


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'"$0" -m uwsgi_waffle {command}', sys.executable],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", SNIPPETS)
def test_ini_prints_the_snippet(name: str) -> None:
    assert run("ini", name).stdout == snippet_path(name).read_text()


@pytest.mark.parametrize("name", SNIPPETS)
def test_ini_path_prints_an_absolute_path(name: str) -> None:
    path = Path(run("ini", name, "--path").stdout.rstrip("\n"))
    assert path.is_absolute()
    assert path.read_text() == snippet_text(name)


def test_alerts_are_printed_or_where_they_are() -> None:
    path = Path(run("alerts", "--path").stdout.rstrip("\n"))
    assert path.is_absolute()
    assert run("alerts").stdout == path.read_text(encoding="utf-8")


def test_ini_without_a_name_prints_waffle() -> None:
    assert run("ini").stdout == snippet_text("waffle")


def test_help_of_ini_names_every_snippet_and_its_purpose() -> None:
    text = run("ini", "--help").stdout
    for name, purpose in SNIPPETS.items():
        assert re.search(rf"^ +{name} +{re.escape(purpose)}$", text, re.MULTILINE)


def test_unknown_snippet_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigurationError, match="gevent, metrics, redis, waffle"):
        snippet_path("../errors")
    assert "'waffle', 'redis', 'gevent', 'metrics'" in run("ini", "nope", status=2).stderr


def test_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"uwsgi_waffle, version {__version__}\n"


def test_clean_file_exits_with_0() -> None:
    result = run("check", "good.ini")
    assert "good.ini: 0 errors, 0 warnings (parser: built-in" in result.stdout


def test_findings_exit_with_1_and_name_the_line_and_the_fix() -> None:
    out = run("check", "bad.ini", status=1).stdout
    assert "bad.ini:2: E002 error: " in out
    assert "    `lazy_apps` is no option, `lazy-apps` is.\n" in out
    assert "    fix: Write the name with dashes." in out


def test_warnings_alone_exit_with_1() -> None:
    Path("warning.ini").write_text(snippet_text() + "need-app = false\n")
    run("check", "warning.ini", status=1)


def test_missing_file_exits_with_2() -> None:
    assert run("check", "gone.ini", status=2).stderr == "not checked: gone.ini is not a file\n"


def test_other_section_is_checked_on_demand() -> None:
    Path("two.ini").write_text(BAD + snippet_text().replace("[uwsgi]", "[live]"))
    run("check", "two.ini", status=1)
    run("check", "two.ini", "--section", "live")


def test_version_of_python_is_taken_from_the_option() -> None:
    Path("hook.ini").write_text(snippet_text() + "py-call-osafterfork = true\n")
    run("check", "hook.ini", "--python", "3.12")
    run("check", "hook.ini", "--python", "3.13.1", status=1)
    run("check", "hook.ini", "--python", "new", status=2)


def test_json_has_the_findings() -> None:
    report = json.loads(run("check", "bad.ini", "--json", status=1).stdout)
    assert report["parser"] == "built-in"
    (found,) = [f for f in report["findings"] if f["id"] == "E002"]
    rule = next(rule for rule in RULES if rule.id == "E002")
    assert found == {
        "id": "E002",
        "level": "error",
        "message": rule.summary,
        "detail": "`lazy_apps` is no option, `lazy-apps` is.",
        "fix": rule.fix,
        "file": "bad.ini",
        "line": 2,
        "option": "lazy_apps",
    }


def test_json_leaves_out_what_does_not_apply() -> None:
    Path("bare.ini").write_text(snippet_text() + "need-app = false\n")
    report = json.loads(run("check", "bare.ini", "--json", status=1).stdout)
    assert "detail" not in report["findings"][0]


def test_json_has_the_reason_why_nothing_was_checked() -> None:
    answer = json.loads(run("check", "gone.ini", "--json", status=2).stdout)
    assert answer == {"file": "gone.ini", "error": "gone.ini is not a file"}


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\x9b2J", "\u202e", "\udcff"])
def test_name_in_a_file_or_of_a_file_does_not_steer_the_terminal(evil: str) -> None:
    Path(f"{evil}.ini").write_text(
        f"[uwsgi]\nmaster_{evil} = 1\nlazy_apps{evil} = 1\nplugin = {evil}\nlazy-app{evil} = 1\n",
        errors="surrogateescape",
    )
    for arguments in ([f"{evil}.ini"], [f"gone{evil}.ini"], ["bad.ini", "--python", evil]):
        for more in ([], ["--json"]):
            result = CliRunner().invoke(main, ["check", *arguments, *more])
            assert result.exit_code in (1, 2)
            assert {char for char in result.output if not char.isprintable()} == {"\n"}


def test_left_out_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWSGI_LAZY_APPS", "1")
    assert "UWSGI_LAZY_APPS" in run("check", "good.ini").stdout


def test_help_tells_the_exit_statuses() -> None:
    assert "2  a file could not be checked" in run("check", "--help").stdout


def test_module_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "uwsgi_waffle", "ini", "--path"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == str(snippet_path())


def test_closed_pipe_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ROOT)
    code = "import sys; from uwsgi_waffle.__main__ import main; main(['ini'])"
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(write_end)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["--help > /dev/full", "ini > /dev/full"])
def test_full_disk_is_no_traceback(command: str) -> None:
    done = shell(command)
    assert done.returncode == 1
    assert done.stderr == "Error: the output can't be written: No space left on device\n"


def test_closed_standard_input_is_an_empty_ini() -> None:
    done = shell("check --stdin <&-")
    assert done.returncode == 2
    assert done.stderr.startswith("not checked: uwsgi.ini has no section [uwsgi]")


def test_file_that_can_not_be_read_is_named() -> None:
    # It opens, and its first byte is no memory.
    said = run("check", "/proc/self/mem", status=2).stderr
    assert said == "not checked: /proc/self/mem can't be read: Input/output error\n"


def test_folder_of_vassals_is_checked_file_by_file() -> None:
    vassals = Path("vassals")
    vassals.mkdir()
    assert run("check", "vassals", status=2).stderr.startswith("not checked: ")
    (vassals / "good.ini").write_text(snippet_text())
    assert "good.ini: 0 errors" in run("check", "vassals").stdout
    (vassals / "bad.ini").write_text(BAD)
    (vassals / "README").write_text("no ini")
    result = run("check", "vassals", status=1)
    assert "vassals/bad.ini:2: E002" in result.stdout
    (vassals / "broken.ini").write_text("[other]\n")
    reports = json.loads(run("check", "vassals", "--json", status=2).stdout)["reports"]
    assert [report["file"] for report in reports] == [
        f"vassals/{name}.ini" for name in ("bad", "broken", "good")
    ]
    assert "no section" in reports[1]["error"]


def test_text_of_standard_input_is_checked_under_the_name_of_a_file() -> None:
    for arguments, name in ([[], "uwsgi.ini"], [["sub/shop.ini"], "sub/shop.ini"]):
        result = CliRunner().invoke(main, ["check", "--stdin", *arguments], input=BAD + "x = %d\n")
        assert result.exit_code == 1
        assert f"{name}:2: E002" in result.stdout
    assert run("check", status=2).stderr.endswith("give its text with --stdin\n")


def test_files_that_uwsgi_reads_before_are_read_before() -> None:
    Path("first.ini").write_text(snippet_text())
    Path("app.ini").write_text("[uwsgi]\nmodule = app\nneed-app = false\n")
    result = run("check", "app.ini", "--also", "first.ini", status=1)
    assert result.stdout.startswith("app.ini:3: W004 warning: ")
    assert "app.ini: 0 errors, 1 warning" in result.stdout


@pytest.mark.parametrize("server", ["gunicorn", "granian", "celery", "flask"])
def test_hooks_are_python_that_says_whether_it_is_needed(server: str) -> None:
    printed = run("hooks", server).output
    compile(printed, server, "exec")
    assert "needs no hook" in printed


def test_hook_of_gunicorn_starts_the_watcher_of_its_worker(
    make_worker: Callable[..., Worker],
) -> None:
    worker = make_worker()
    hooks: dict[str, Any] = {}
    exec(run("hooks", "gunicorn").output, hooks)
    hooks["post_worker_init"](SimpleNamespace(wsgi=worker.app))
    assert worker.state.engine.watching


def test_hooks_of_an_unknown_server_name_the_known_ones() -> None:
    assert "gunicorn" in run("hooks", "waitress", status=2).output
