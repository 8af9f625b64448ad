"""The command line: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgi_waffle.__main__ import main
from uwsgi_waffle.checks import binary as servers
from uwsgi_waffle.errors import ConfigurationError
from uwsgi_waffle.ini import SNIPPETS, snippet_path, snippet_text

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


@pytest.mark.parametrize("name", SNIPPETS)
def test_ini_prints_the_snippet(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["ini", name]) == 0
    assert capsys.readouterr().out == snippet_path(name).read_text()


@pytest.mark.parametrize("name", SNIPPETS)
def test_ini_path_prints_an_absolute_path(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["ini", name, "--path"]) == 0
    path = Path(capsys.readouterr().out.rstrip("\n"))
    assert path.is_absolute()
    assert path.read_text() == snippet_text(name)


def test_ini_without_a_name_prints_waffle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ini"]) == 0
    assert capsys.readouterr().out == snippet_text("waffle")


def test_unknown_snippet_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigurationError, match="gevent, metrics, redis, waffle"):
        snippet_path("../errors")
    with pytest.raises(SystemExit) as exit_:
        main(["ini", "nope"])
    assert exit_.value.code == 2


def test_clean_file_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "good.ini"]) == 0
    assert "good.ini: 0 errors, 0 warnings (parser: built-in" in capsys.readouterr().out


def test_findings_exit_with_1_and_name_the_line_and_the_mend(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "bad.ini"]) == 1
    out = capsys.readouterr().out
    assert "bad.ini:2: E002 error: " in out
    assert "    mend: Write the name with dashes." in out


def test_warnings_alone_exit_with_1() -> None:
    Path("warning.ini").write_text(snippet_text() + "need-app = false\n")
    assert main(["check", "warning.ini"]) == 1


def test_missing_file_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gone.ini"]) == 2
    assert capsys.readouterr().err == "not checked: gone.ini is not a file\n"


def test_other_section_is_checked_on_demand() -> None:
    Path("two.ini").write_text(BAD + snippet_text().replace("[uwsgi]", "[live]"))
    assert main(["check", "two.ini"]) == 1
    assert main(["check", "two.ini", "--section", "live"]) == 0


def test_version_of_python_is_taken_from_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hook.ini").write_text(snippet_text() + "py-call-osafterfork = true\n")
    assert main(["check", "hook.ini", "--python", "3.12"]) == 0
    assert main(["check", "hook.ini", "--python", "3.13.1"]) == 1
    assert main(["check", "hook.ini", "--python", "new"]) == 2


def test_json_has_the_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "bad.ini", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["parser"] == "built-in"
    (found,) = [f for f in report["findings"] if f["id"] == "E002"]
    assert found["file"] == "bad.ini"
    assert found["line"] == 2
    assert found["level"] == "error"
    assert found["option"] == "lazy_apps"
    assert found["mend"]
    assert found["message"]


def test_json_has_the_reason_why_nothing_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gone.ini", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"file": "gone.ini", "error": "gone.ini is not a file"}


def test_left_out_environment_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWSGI_LAZY_APPS", "1")
    main(["check", "good.ini"])
    assert "UWSGI_LAZY_APPS" in capsys.readouterr().out


def test_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["check", "--help"])
    assert exit_.value.code == 0
    assert "2  the file could not be checked" in capsys.readouterr().out


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
    code = "import sys; from uwsgi_waffle.__main__ import main; sys.exit(main(['ini']))"
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
