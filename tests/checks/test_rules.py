"""Each rule is found where it should be, on its line, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uwsgi_waffle.checks import RULES, CheckError, Finding, check_file
from uwsgi_waffle.checks import binary as servers
from uwsgi_waffle.checks.reader import read
from uwsgi_waffle.checks.rules import Subject, apply
from uwsgi_waffle.ini import SNIPPETS, snippet_path

GOOD = """\
[uwsgi]
master = true
enable-threads = true
lazy-apps = true
single-interpreter = true
need-app = true
die-on-term = true
module = app
"""
EARLY_GEVENT = "gevent = 10\ngevent-early-monkey-patch = true\n"


def a_server(version: str = "2.0.31", *, pyuwsgi: bool = False) -> servers.Server:
    return servers.Server(
        path="/usr/bin/uwsgi",
        version=version,
        python=(3, 11),
        options=frozenset({"socket", "buffer-size", "pidfile"}),
        needs_binary_path=pyuwsgi,
    )


def findings(
    path: Path,
    text: str,
    *,
    server: servers.Server | None = None,
    python: tuple[int, int] = (3, 11),
    has_binary_path: bool = False,
) -> list[Finding]:
    ini = path / "uwsgi.ini"
    ini.write_text(text)
    resolved = read(str(ini))
    used = {m for v in resolved.raw_values for m in re.findall(r"%\(([\w-]+)\)", v)}
    subject = Subject(
        options=resolved.options,
        file=str(ini),
        section_line=resolved.section_line,
        server=server or a_server(),
        python=python,
        has_binary_path=has_binary_path,
        placeholders=frozenset(used),
    )
    return apply(subject)


def ids(found: list[Finding]) -> list[tuple[str, int | None]]:
    return [(f.id, f.line) for f in found]


def without(key: str) -> str:
    return "".join(line for line in GOOD.splitlines(True) if not line.startswith(f"{key} "))


def test_good_file_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD, server=a_server("2.0.21-debian")) == []


@pytest.mark.parametrize("name", SNIPPETS)
@pytest.mark.parametrize("version", ["2.0.21", "2.0.31"])
def test_snippet_has_no_findings(tmp_path: Path, name: str, version: str) -> None:
    text = f"[uwsgi]\nini = {snippet_path(name)}\nmount = /a=a.py\nmount = /b=b.py\n"
    assert findings(tmp_path, text, server=a_server(version)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (without("lazy-apps"), ("W001", 1)),
        (GOOD + "lazy-apps = false\n", ("W002", 9)),
        (GOOD + "lazy-apps = 0\n", ("W002", 9)),
        (without("lazy-apps") + "lazy = true\n", ("W003", 8)),
        (without("need-app"), ("W004", 1)),
        (GOOD + "need-app = off\n", ("W004", 9)),
        (without("master"), ("E003", 1)),
        (GOOD + "master = no\n", ("E003", 9)),
        (without("lazy-apps") + "\n; a comment\nlazy_apps = true\n", ("E002", 10)),
        (GOOD + "buffer_size = 8192\n", ("W010", 9)),
        (GOOD + "lazy-app = true\n", ("W011", 9)),
        (GOOD + "enable-thread = true\n", ("W011", 9)),
        (GOOD + "single-interpeter = true\n", ("W011", 9)),
        (GOOD.replace("need-app = true", "need-app = false\nneed-app = true"), ("W012", 6)),
        (without("single-interpreter") + "mount = /b=b.py\n", ("W005", 8)),
        (GOOD + "enable-threads = false\n", ("W013", 9)),
        (GOOD + "gevent = 10\ngevent-monkey-patch = true\n", ("W008", 10)),
        (GOOD + "gevent = 10\n", ("W009", 9)),
    ],
)
def test_rule_names_its_line(tmp_path: Path, text: str, expected: tuple[str, int]) -> None:
    assert expected in ids(findings(tmp_path, text))


@pytest.mark.parametrize(
    "lines",
    [
        "lazy_apps = x\ntitle = %(lazy_apps)\n",
        "masters = x\ntitle = %(masters)\n",
        "site = blue\nprocs = 4\nthe_name = x\n",
        "gevent = 10\ngevent-early-monkey-patch = true\n",
        "pivot_root = /a /b\n",
        "gevent = 0\n",
    ],
)
def test_legitimate_line_is_not_found(tmp_path: Path, lines: str) -> None:
    assert findings(tmp_path, GOOD + lines) == []


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [
        ("2.0.26", without("enable-threads"), [("E001", 1)]),
        ("2.0.21-debian", without("enable-threads"), [("E001", 1)]),
        ("2.0.27", without("enable-threads"), []),
        ("2.1.0", without("enable-threads"), []),
        ("2.0.26", GOOD + "enable-threads = false\n", [("E001", 9)]),
        ("2.0.26", without("enable-threads") + "threads = 2\n", []),
        ("2.0.26", without("enable-threads") + "py-autoreload = 1\n", []),
        # An explicit false comes after what implies them.
        ("2.0.26", GOOD + "enable-threads = false\nthreads = 2\n", [("E001", 9)]),
        ("2.0.26", without("enable-threads") + EARLY_GEVENT, []),
        ("2.0.26", GOOD + "enable-threads = false\n" + EARLY_GEVENT, []),
    ],
)
def test_missing_threads_are_an_error_before_2_0_27(
    tmp_path: Path, version: str, text: str, expected: list[tuple[str, int]]
) -> None:
    assert ids(findings(tmp_path, text, server=a_server(version))) == expected


def test_missing_threads_are_an_error_where_the_version_is_not_known(tmp_path: Path) -> None:
    ini = tmp_path / "uwsgi.ini"
    ini.write_text(without("enable-threads"))
    subject = Subject(options=read(str(ini)).options, file=str(ini), section_line=1)
    assert ids(apply(subject)) == [("E001", 1)]


@pytest.mark.parametrize("implied", ["cheaper = 1\n", "stats = 127.0.0.1:9191\n"])
def test_explicit_false_wins_over_an_option_that_implies_a_master(
    tmp_path: Path, implied: str
) -> None:
    text = without("master") + implied + "master = false\n"
    assert ids(findings(tmp_path, text)) == [("E003", 9)]


@pytest.mark.parametrize(
    "apps",
    ["mount = b.py\n", "wsgi-file = b.py\n", "module = b\n", "wsgi-file = b.py\nmount = c.py\n"],
)
def test_second_default_app_and_mount_without_a_path_are_no_second_app(
    tmp_path: Path, apps: str
) -> None:
    assert findings(tmp_path, without("single-interpreter") + apps) == []


def test_number_of_apps_is_told(tmp_path: Path) -> None:
    apps = "wsgi-file = b.py\nmount = c.py\nmount = /d=d.py\nworker-mount = /e=e.py\n"
    (found,) = findings(tmp_path, without("single-interpreter") + apps)
    assert (found.id, found.detail) == ("W005", "Apps: 3.")


def test_inherited_file_that_says_the_same_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[uwsgi]\nlazy-apps = 1\nprocesses = 2\n")
    inherit = f"inherit = {tmp_path / 'more.ini'}\n"
    assert findings(tmp_path, GOOD + inherit) == []
    assert findings(tmp_path, GOOD + "processes = 2\n" + inherit) == []
    (found,) = findings(tmp_path, GOOD + "processes = 3\n" + inherit)
    assert (found.id, found.option) == ("W007", "processes")


@pytest.mark.parametrize("implied", ["cheaper = 1", "stats = 127.0.0.1:9191", "mule = m.py"])
def test_option_that_implies_a_master_is_enough(tmp_path: Path, implied: str) -> None:
    assert findings(tmp_path, without("master") + implied + "\n") == []


def test_fork_hook_is_found_on_python_3_13_only(tmp_path: Path) -> None:
    text = GOOD + "py-call-osafterfork = true\n"
    assert findings(tmp_path, text, python=(3, 12)) == []
    assert ids(findings(tmp_path, text, python=(3, 13))) == [("E004", 9)]
    assert findings(tmp_path, GOOD + "py-call-osafterfork = false\n", python=(3, 14)) == []


def test_reload_of_pyuwsgi_needs_a_binary_path(tmp_path: Path) -> None:
    wheel = a_server(pyuwsgi=True)
    assert ids(findings(tmp_path, GOOD, server=wheel)) == [("W006", 1)]
    assert findings(tmp_path, GOOD, server=wheel, has_binary_path=True) == []
    assert findings(tmp_path, GOOD + "binary-path = /venv/bin/python\n", server=wheel) == []


@pytest.mark.parametrize("above", [True, False])
def test_value_that_an_inherited_file_overrides_is_found(tmp_path: Path, above: bool) -> None:
    own, inherit = "lazy-apps = false\n", f"inherit = {snippet_path()}\n"
    text = "[uwsgi]\n" + (own + inherit if above else inherit + own)
    assert ids(findings(tmp_path, text)) == [("W007", 2 if above else 3)]


def test_include_at_the_end_wins_and_is_told(tmp_path: Path) -> None:
    text = f"[uwsgi]\nlazy-apps = false\nini = {snippet_path()}\n"
    assert ids(findings(tmp_path, text)) == [("W012", 2)]


def test_finding_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[uwsgi]\n\nneed-app = false\n")
    (found,) = findings(tmp_path, GOOD + f"ini = {tmp_path / 'more.ini'}\n")
    assert (found.id, found.file, found.line) == ("W004", str(tmp_path / "more.ini"), 3)


def test_absence_points_to_the_section(tmp_path: Path) -> None:
    text = "; a comment\n[other]\nx = 1\n" + without("need-app")
    assert ids(findings(tmp_path, text)) == [("W004", 4)]


def test_ids_are_unique_sorted_and_tell_their_level() -> None:
    names = [rule.id for rule in RULES]
    assert names == sorted(set(names))
    for rule in RULES:
        assert re.fullmatch(r"[EW]\d{3}", rule.id)
        assert rule.level == ("error" if rule.id[0] == "E" else "warning")
        assert rule.summary.endswith(".")
        assert rule.fix.endswith(".")


def test_findings_of_the_real_parser_have_lines_too(tmp_path: Path) -> None:
    ini = tmp_path / "uwsgi.ini"
    ini.write_text("[uwsgi]\nmaster = true\nfor = no off\nneed-app = %(_)\nendfor =\n")
    found = {f.id: f.line for f in check_file(ini, python="3.13").findings}
    assert found["W001"] == 1
    assert found["W004"] == 4


def test_emperor_is_told_to_check_its_vassals(tmp_path: Path) -> None:
    ini = tmp_path / "emperor.ini"
    ini.write_text("[uwsgi]\nemperor = /etc/vassals\n")
    report = check_file(ini)
    assert {finding.id for finding in report.findings} <= {"E005", "W006"}
    assert any("vassal" in note for note in report.notes)


def test_emperor_that_serves_an_app_too_is_checked_as_a_server(tmp_path: Path) -> None:
    assert ids(findings(tmp_path, without("master") + "emperor = /etc/vassals\n")) == [("E003", 1)]


def test_emperor_of_pyuwsgi_needs_a_wrapper_and_a_binary_path(tmp_path: Path) -> None:
    wheel, text = a_server(pyuwsgi=True), "[uwsgi]\nemperor = /etc/vassals\n"
    assert findings(tmp_path, text) == []
    assert ids(findings(tmp_path, text, server=wheel)) == [("W006", 1), ("E005", 2)]
    text += "emperor-wrapper = /venv/bin/uwsgi\n"
    assert ids(findings(tmp_path, text, server=wheel)) == [("W006", 1)]
    assert findings(tmp_path, text + "binary-path = /venv/bin/python\n", server=wheel) == []


def test_several_interpreters_are_an_error_on_python_3_13(tmp_path: Path) -> None:
    text = without("single-interpreter") + "mount = /b=b.py\n"
    assert ids(findings(tmp_path, text, python=(3, 12))) == [("W005", 8)]
    assert ids(findings(tmp_path, text, python=(3, 13))) == [("E006", 8)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("async = 10\n", [("W014", 9)]),
        ("async = 10\nugreen = true\n", [("W014", 10)]),
        ("async = 1\n", []),
        ("async = 10\nugreen = false\ngreenlet = true\n", []),
        ("async = 10\n" + EARLY_GEVENT, []),
    ],
)
def test_switching_between_requests_in_one_thread_is_found(
    tmp_path: Path, lines: str, expected: list[tuple[str, int]]
) -> None:
    assert ids(findings(tmp_path, GOOD + lines)) == expected


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json", "a.xml"])
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("uwsgi:\n")
    with pytest.raises(CheckError, match="only ini files"):
        check_file(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no section"),
        (b"\xef\xbb\xbf[uwsgi]\nmaster = true\n", "begins with a byte order mark"),
        (b"[other]\nmaster = true\n", "no section"),
        (b"\x00\x01", "not a text file"),
        (b"[uwsgi]\nini = gone.ini\n", "uwsgi.ini:2: gone.ini is not a file"),
        (b"[uwsgi]\nwhere = x.ini\nini = %(where)\n", "no placeholder here"),
        (b"[uwsgi]\nini = $(WHERE)\n", "no placeholder here"),
        (b"[uwsgi]\nif-env = A\nif-env = B\nx = 1\nendif =\nendif =\n", "inside each other"),
    ],
)
def test_file_that_can_not_be_checked_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setenv("A", "1")
    (tmp_path / "uwsgi.ini").write_bytes(content)
    with pytest.raises(CheckError, match=reason):
        check_file(tmp_path / "uwsgi.ini")
