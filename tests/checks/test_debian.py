"""An app's file in Debian's layout is checked as Debian's service starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from uwsgi_waffle.checks import Report, check_file, debian
from uwsgi_waffle.checks import binary as servers

# What the package's default.ini says, in other words.
DEFAULTS = """\
[uwsgi]
declare-option = deb-confnamespace=$1
declare-option = deb-confname=$1
master = true
workers = 2
pidfile = /run/uwsgi/%(deb-confnamespace)/%(deb-confname)/pid
log-date = true
"""
APP = """\
[uwsgi]
plugins = python3
enable-threads = true
lazy-apps = true
need-app = true
module = app
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "usr/share/uwsgi/conf/default.ini": DEFAULTS,
        "etc/default/uwsgi": "INHERITED_CONFIG=/usr/share/uwsgi/conf/default.ini\n",
        "etc/uwsgi/apps-available/shop.ini": APP,
        "srv/shop.ini": APP,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "etc/uwsgi/apps-enabled").mkdir()
    (tmp_path / "etc/uwsgi/apps-enabled/shop.ini").symlink_to("../apps-available/shop.ini")
    read_before = debian.read_before
    monkeypatch.setattr(debian, "read_before", lambda file: read_before(file, tmp_path))
    return tmp_path


def ids(report: Report) -> list[str]:
    # What the uWSGI of this environment adds is another test's.
    return [finding.id for finding in report.findings if finding.id != "W006"]


def test_file_of_an_enabled_app_needs_no_master_of_its_own(root: Path) -> None:
    report = check_file(root / "etc/uwsgi/apps-enabled/shop.ini")
    assert ids(report) == []
    assert any("default.ini is read first" in note for note in report.notes)


@pytest.mark.parametrize("name", ["etc/uwsgi/apps-available/shop.ini", "srv/shop.ini"])
def test_other_file_stands_alone(root: Path, name: str) -> None:
    # The unit uwsgi-app@.service starts uWSGI with the file of apps-available only.
    assert ids(check_file(root / name)) == ["E003"]
    assert ids(check_file(root / name, also=[str(root / "usr/share/uwsgi/conf/default.ini")])) == []


def test_own_defaults_of_the_service_are_read(root: Path) -> None:
    (root / "etc/mine.ini").write_text("[uwsgi]\nmaster = false\n")
    (root / "etc/default/uwsgi").write_text('# x\nINHERITED_CONFIG="/etc/mine.ini"\n')
    (found,) = [
        finding
        for finding in check_file(root / "etc/uwsgi/apps-enabled/shop.ini").findings
        if finding.id != "W006"
    ]
    assert (found.id, found.file) == ("E003", str(root / "etc/mine.ini"))


def test_file_that_is_named_takes_the_place_of_the_defaults(root: Path) -> None:
    report = check_file(root / "etc/uwsgi/apps-enabled/shop.ini", also=[])
    assert ids(report) == ["E003"]


def test_uwsgi_resolves_the_files_together(root: Path) -> None:
    app = root / "etc/uwsgi/apps-enabled/shop.ini"
    app.write_text(APP.replace("plugins = python3\n", "procname = %(workers)\nx = %O %o\n"))
    report = check_file(app)
    assert ids(report) == []
    if servers.find_binary(None, {}) is not None:
        assert report.parser.startswith("uWSGI ")


def test_option_that_is_declared_with_an_effect_is_refused(root: Path) -> None:
    (root / "usr/share/uwsgi/conf/default.ini").write_text(
        "[uwsgi]\ndeclare-option = go=ini=exec://touch marker\n"
    )
    with pytest.raises(Exception, match="--allow-exec"):
        check_file(root / "etc/uwsgi/apps-enabled/shop.ini")
