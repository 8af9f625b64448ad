"""``init`` writes what this environment needs, and what passes the check."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from uwsgi_waffle.__main__ import main
from uwsgi_waffle.checks import CheckError, check_file
from uwsgi_waffle.checks import binary as servers
from uwsgi_waffle.checks.setup import ini_for_an_app, ini_for_an_emperor
from uwsgi_waffle.ini import SNIPPETS, snippet_path

HERE = (sys.version_info[0], sys.version_info[1])
SERVER = servers.Server("/venv/bin/uwsgi", "2.0.31", HERE, frozenset({"socket"}), False)
PYUWSGI = msgspec.structs.replace(SERVER, needs_binary_path=True)
DEBIAN = msgspec.structs.replace(SERVER, path="/usr/bin/uwsgi", python=None)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[SERVER, PYUWSGI, DEBIAN], ids=["uwsgi", "pyuwsgi", "debian"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> servers.Server:
    server: servers.Server = request.param
    monkeypatch.setattr(servers, "find_binary", lambda given, env: server.path)
    monkeypatch.setattr(servers, "ask", lambda path, env: server)

    # As uWSGI does, which is not here in each of these kinds.
    def show_config(server: servers.Server, file: str, *_: object) -> list[tuple[str, str]]:
        from uwsgi_waffle.checks.reader import read

        return [(option.key, option.value) for option in read(file).options]

    monkeypatch.setattr(servers, "show_config", show_config)
    return server


def init(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["init", *arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_ini_of_an_app_passes_the_check(server: servers.Server, snippet: str) -> None:
    out = init("shop:create_app()", "--snippet", snippet, "--processes", "3").stdout
    assert "uwsgi.ini is written\n" in out
    assert "uwsgi.ini: 0 errors, 0 warnings" in out
    text = Path("uwsgi.ini").read_text()
    assert f"\nini = {snippet_path(snippet)}\n" in text
    assert "\nmodule = shop:create_app()\nprocesses = 3\n" in text.replace(
        text[text.index("\n", text.index("module")) : text.index("\nprocesses")], ""
    )


def test_ini_of_an_emperor_passes_the_check(server: servers.Server, folder: Path) -> None:
    assert "0 errors, 0 warnings" in init("--emperor", "vassals").stdout
    text = Path("emperor.ini").read_text()
    assert f"\nemperor = {folder}/vassals\n" in text
    assert ("emperor-wrapper = /venv/bin/uwsgi\nbinary-path = /venv/bin/python\n" in text) == (
        server is PYUWSGI
    )


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (PYUWSGI, "\nbinary-path = /venv/bin/python\n"),
        (DEBIAN, "\nplugins = python3\n"),
        (SERVER, f"\nvirtualenv = {sys.prefix}\n"),
    ],
    indirect=["server"],
)
def test_ini_has_what_the_kind_of_uwsgi_needs(
    server: servers.Server, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    text = ini_for_an_app(server)
    assert line in text
    assert text.count("binary-path") == (server is PYUWSGI)


def test_uwsgi_with_another_python_is_refused() -> None:
    with pytest.raises(CheckError, match=r"runs Python 2\.7, and this environment has 3"):
        ini_for_an_app(msgspec.structs.replace(SERVER, python=(2, 7)))


@pytest.mark.parametrize("app", ["", "a\nlazy-apps = false", " a", "%(x)", "$(HOME)", "a\x1b"])
def test_text_that_is_no_line_of_an_ini_is_refused(app: str) -> None:
    with pytest.raises(CheckError, match="can't be written into an ini"):
        ini_for_an_app(SERVER, app=app)
    with pytest.raises(CheckError, match="can't be written into an ini"):
        ini_for_an_emperor(msgspec.structs.replace(PYUWSGI, path=app), "vassals")


def test_other_file_is_left_alone_and_the_difference_is_shown(server: servers.Server) -> None:
    init("shop:app", "--processes", "2")
    assert "is as it should be" in init("shop:app", "--processes", "2").stdout
    result = init("shop:app", "--processes", "4", status=1)
    assert "-processes = 2\n+processes = 4\n" in result.stdout
    assert "--overwrite" in result.stderr
    assert "processes = 2\n" in Path("uwsgi.ini").read_text()
    init("shop:app", "--processes", "4", "--overwrite")
    assert "processes = 4\n" in Path("uwsgi.ini").read_text()


def test_folder_that_is_not_there_is_an_error(server: servers.Server) -> None:
    said = init("--file", "gone/uwsgi.ini", status=2).stderr
    assert said == "not written: gone/uwsgi.ini: No such file or directory\n"


@pytest.mark.parametrize("app", ["shop", "shop:", ":app", "my shop:app"])
def test_app_without_module_or_callable_is_refused(server: servers.Server, app: str) -> None:
    said = init(app, status=2).stderr
    assert said == f"not written: {app!r} names no app: write MODULE:CALLABLE, such as app:app\n"
    assert not Path("uwsgi.ini").exists()


def test_missing_uwsgi_is_an_error_that_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "find_binary", lambda given, env: None)
    assert "pip install 'uwsgi-waffle[uwsgi]'" in init(status=2).stderr
    assert not Path("uwsgi.ini").exists()


def test_real_uwsgi_of_this_environment_finds_nothing_in_what_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    if servers.find_binary(None, os.environ) is None:
        if os.environ.get("WAFFLE_REQUIRE_SERVERS") == "1":
            pytest.fail("uWSGI is required by WAFFLE_REQUIRE_SERVERS=1, and is missing")
        pytest.skip("uWSGI is not installed")
    monkeypatch.delenv("UWSGI_BINARY_PATH", raising=False)
    init("shop:app")
    report = check_file("uwsgi.ini")
    assert report.findings == ()
    init("--emperor", "vassals")
    assert check_file("emperor.ini").findings == ()


def test_file_that_is_written_is_not_called_unwritten(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CheckError("uwsgi.ini: uWSGI said nothing")

    monkeypatch.setattr("uwsgi_waffle.__main__.check_file", fail)
    result = init("shop:app", status=2)
    assert result.stdout == "uwsgi.ini is written\n"
    assert result.stderr == "not checked: uwsgi.ini: uWSGI said nothing\n"
    assert Path("uwsgi.ini").exists()


def test_package_that_the_gevent_snippet_needs_is_named_where_it_is_missing(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "note: gevent is not installed in this environment: pip install gevent\n"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert init("shop:app", "--snippet", "gevent").stdout.endswith(missing)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert missing not in init("shop:app", "--snippet", "gevent").stdout
