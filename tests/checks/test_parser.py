"""The built-in reader sees what uWSGI's own parser sees, and runs none of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uwsgi_waffle.checks import binary as servers
from uwsgi_waffle.checks.copying import private_copy
from uwsgi_waffle.checks.reader import read
from uwsgi_waffle.ini import SNIPPETS, snippet_path


@pytest.fixture(scope="module")
def server() -> servers.Server:
    path = servers.find_binary(None, os.environ)
    if path is None:
        if os.environ.get("WAFFLE_REQUIRE_SERVERS") == "1":
            pytest.fail("uWSGI is required by WAFFLE_REQUIRE_SERVERS=1, and is missing")
        pytest.skip("uWSGI is not installed")
    return servers.ask(path, os.environ)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SITE", "blue")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("FROM_ENV", "from-env.ini")
    for name, text in {
        "base.ini": "[uwsgi]\nbase = %d %s %n %e %c %0 %D %S %o\n[other]\nneed-app = 1\n",
        "nested.ini": "[uwsgi]\nini = base.ini\ninherit = late.ini\nnested = 1\n",
        "late.ini": "[uwsgi]\nlazy-apps = true\nlate = %(site) $(SITE) %o %x\n",
        "from-env.ini": "[uwsgi]\nfrom-env = 1\n",
        "a.part": "[uwsgi]\na = 1\n",
        "b.part": "[uwsgi]\nb = 1\n",
        "one.txt": "one\n",
        "returns.txt": "a\r",
        "no.newline": "b",
        "lines.txt": "one\ntwo\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("NESTED", "$(SITE)")
    monkeypatch.setenv("AT", "@(one.txt)")
    return tmp_path


HARMLESS = {
    "plain": "master = true\nprocesses=4\n  enable-threads   =   true  \n",
    "comments": "; no = 1\n# no = 2\n\nmaster = true ; not a comment\n",
    "no value": "master\nlazy-apps =\n",
    "carriage returns": "master = true\r\nlazy-apps = true\r\n",
    "no last newline": "master = true\nprocesses = 2",
    "tabs": "\tmaster\t=\ttrue\t\n",
    "equals in the value": "mount = /a=app.py\nenv = A=B=C\n",
    "other sections": "master = true\n[elsewhere]\nprocesses = 3\n[uwsgi]\nneed-app = true\n",
    "ini": "ini = base.ini\nlazy-apps = false\n",
    "ini section": "ini = base.ini:other\n",
    "ini of the same file": "ini = :elsewhere\n[elsewhere]\nneed-app = true\n",
    "ini of the file read last": "ini = base.ini\nini = :other\n[other]\nx = 1\n",
    "name of the file read last": "ini = late.ini\nini = :uwsgi\n",
    "include": "include = base.ini\n",
    "inherit": "inherit = nested.ini\nsite = x\nlazy-apps = false\n",
    "nested": "ini = nested.ini\nmaster = false\n",
    "inherit of an environment": "inherit = $(FROM_ENV)\nx = 1\n",
    "inherit of a placeholder": "name = base\ninherit = %(name).ini\n",
    "magic": "a = %p %s %d %n %e %c %o %x %v %h %u %U %g %G %k %0 %1 %P %X %% %z|\n",
    "joined lines": "a = 100%\nb = 2\nc = 3\n",
    "environment": "a = $(SITE) $(NOT_SET_AT_ALL) $(EMPTY)|\n",
    "file": "a = @(one.txt)\n",
    "placeholders": "site = blue\na = %(site)-%(nothing)\nb = %(a)\n",
    "first placeholder wins": "x = 1\nx = 2\na = %(x)\n",
    "set": "set = lazy-apps=true\nset-placeholder = where=/srv\na = %(where)\n",
    "for": "for = x y\nname = %(_)\nendfor =\nz = 1\n",
    "for-times": "for-times = +3\nn = %(_)\nend-for =\n",
    "for-glob": "for-glob = *.part\nini = %(_)\nendfor =\n",
    "if-env": "if-env = SITE\nsite = %(_)\nendif =\nif-env = SITE=red\nx = 1\nendif =\n",
    "if-not-env": "if-not-env = SITE\nx = 1\nendif =\nif-not-env = NOPE\ny = %(_)1\nend =\n",
    "if-exists": "if-exists = base.ini\nini = %(_)\nendif =\nif-file = nope\nx = 1\nendif =\n",
    "if-dir": "if-dir = .\nx = 1\nendif =\nif-not-dir = .\ny = 1\nendif =\n",
    "if-opt": "a = 1\nif-opt = a\nx = %(_)\nendif =\nif-opt = a=2\ny = 1\nendif =\n",
    "if-reload": "if-reload =\nx = 1\nendif =\nif-not-reload =\ny = 1\nendif =\n",
    "placeholder of a placeholder": "a = %(b) x%(b)\nc = x%(b)\nb = %(d)\nd = 1\n",
    "placeholder in a file that comes later": "a = %(late)\nini = late.ini\nsite = x\n",
    "placeholder in a placeholder": "p = 3\n3 = y\na = %%(%(p)) x%(%(p)) %(a(b)) %() %(\n",
    "environment of an environment": "a = $(NESTED) $(NESTED)\nb = x$(NESTED)\n",
    "calculated": "p = 3\na = %(p + 4) %(p p 1 ++) %(p / 0) %(q 7) %(p -- --) %(p  2) %( )\n"
    "b = %(- 5) %(p * p q) %(1.5 2) %(-3 + 1) %(q + 1) %(-7 / 2) %(p / 2) %(- 7 / 2)\n"
    "c = %(9223372036854775807 + 1) %(99999999999999999999 - 1) %(p - 10 / 2)\n",
    "started with": "a = %(ini)\nif-opt = ini\nx = %(_)\nendif =\n",
    "glob of a folder": "for-glob = *\nf = %(_)\nendfor =\n",
    "quoted files": "a = @(returns.txt)|\nb = $(AT)|\nc = x@(no.newline)y\n",
    "set of a quoted file": "set = a=@(one.txt)\nset-ph = b=@(one.txt)\nc = %(a) %(b)\n",
    "block in a block's file": "for = x y\nini = base.ini\nendfor =\nz = %(base)\n",
    "block that is not ended": "if-env = NOPE\nx = 1\n[other]\n[uwsgi]\ny = 1\n",
    "names of includes": "a = %(include) %(inherit)\ninclude = base.ini\ninherit = late.ini\n",
    "set of includes": "set = ini=base.ini\nset = set=ini=late.ini\nset = inherit=nested.ini\n",
    "set of a block": "set = if-env=NOPE\nx = 1\nset = endif=\ny = 1\n",
    "else": "if-env = NOPE\nx = 1\nelse =\ny = 1\nendif =\n",
    "hooks of one's own": "hook-asap = print:hello\nexec-asap = false\npidfile = x.pid\n",
    "dates in the log": "log-date = true\nx = 1\n",
    "dates of one's own": "log-date = [%%Y-%%m-%%d] = \nx = 1\n",
    "sockets": "http-socket = 127.0.0.1:1\nsocket = x.sock\nstats = 127.0.0.1:1\nmule =\n",
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_reader_resolves_as_uwsgi_does(server: servers.Server, folder: Path, text: str) -> None:
    ini = folder / "uwsgi.ini"
    ini.write_text("[uwsgi]\n" + text, newline="")
    resolved = read("uwsgi.ini", env=servers.clean_env(os.environ))
    assert resolved.hazards == ()
    ours = [(o.key, o.value) for o in resolved.options]
    assert ours == servers.show_config(server, "uwsgi.ini", "uwsgi", os.environ)


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("section", ["uwsgi", "live"])
def test_uwsgi_sees_in_the_private_copy_what_it_sees_in_place(
    server: servers.Server, folder: Path, text: str, section: str
) -> None:
    ini = folder / "uwsgi.ini"
    ini.write_text(f"[{section}]\n{text}", newline="")
    scanned = read("uwsgi.ini", section, servers.clean_env(os.environ))
    with private_copy(scanned.sheets, scanned.quoted) as copy:
        copied = copy.original(servers.show_config(server, copy.path, "uwsgi", os.environ))
    assert copied == servers.show_config(server, "uwsgi.ini", section, os.environ)


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet_resolves_as_in_uwsgi(server: servers.Server, name: str) -> None:
    path = str(snippet_path(name))
    ours = [(o.key, o.value) for o in read(path).options]
    assert ours == servers.show_config(server, path, "uwsgi", os.environ)
    assert ("lazy-apps", "true") in ours


def test_line_that_only_uwsgi_can_spell_out_is_the_one_that_is_named(folder: Path) -> None:
    (folder / "uwsgi.ini").write_bytes(b"[uwsgi]\nmaster = true\nenv = A=\xff\n")
    (hazard,) = read("uwsgi.ini").hazards
    assert (hazard.line, hazard.text) == (3, "env = A=\ufffd")
