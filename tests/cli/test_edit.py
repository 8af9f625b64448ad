"""``flask waffle edit``: the settings in an editor, and what becomes of what it saves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result, _NamedTextIOWrapper

from uwsgi_waffle.cli import group

from ..support.rig import CONFS, Worker

MakeWorker = Callable[..., Worker]
CONFS_ALL = {
    **CONFS,
    "TAGS": {"desc": "Words", "default": ["a"], "type": list[str], "group": "More"},
    "BANNER": {"desc": "Text on top", "default": None, "type": str | None, "group": "More"},
    "ODD": {"desc": "With null", "default": [None], "type": list[int | None], "group": "More"},
}


def edit(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    *edits: Callable[[str], str | None],
    arguments: tuple[str, ...] = (),
    status: int = 0,
    **options: Any,
) -> tuple[Result, list[str]]:
    """Run the command with an editor that makes these edits, one at each call."""
    texts: list[str] = []

    def editor(text: str, extension: str) -> str | None:
        assert extension == ".toml"
        texts.append(text)
        return edits[len(texts) - 1](text)

    monkeypatch.setattr(click, "edit", editor)
    result = worker.app.test_cli_runner().invoke(group, ["edit", *arguments], **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    assert len(texts) == len(edits)
    return result, texts


def replacing(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, text
        return text.replace(old, new)

    return change


def test_what_is_saved_is_one_change(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(confs=CONFS_ALL)
    worker.waffle.update({"LIMIT": 20})

    def save(text: str) -> str:
        text = replacing("LIMIT = 20", "LIMIT = 30")(text)
        text = replacing('TAGS = ["a"]', 'TAGS = ["b", "c"]')(text)
        return replacing('# "BANNER" is null', 'BANNER = "Hello"')(text)

    result, _ = edit(worker, monkeypatch, save, arguments=("--reason", "tidy"))
    assert result.stdout.splitlines() == [
        "LIMIT: 20 → 30",
        'TAGS: default → ["b","c"]',
        'BANNER: default → "Hello"',
        "revision 2",
    ]
    assert worker.waffle.history(limit=1)[0].reason == "tidy"


def test_document_explains_each_setting(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(confs=CONFS_ALL)
    worker.state.store.write({"LIMIT": "5000"})
    _, (text,) = edit(worker, monkeypatch, lambda text: None)
    assert "# Upload limit\n# int; default 10; at least 1; at most 1000\n# what is stored" in text
    assert "\n# --- More ---\n\n# Words\n" in text
    assert 'TOKEN = "********"' in text
    assert "use `flask waffle set`" in text
    _, (text,) = edit(worker, monkeypatch, lambda text: None, arguments=("LIMIT", "--show-secrets"))
    assert re.findall(r"^(\w+) =", text, re.MULTILINE) == ["LIMIT"]


def test_nothing_saved_or_nothing_changed_makes_no_revision(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(confs=CONFS_ALL)
    for save in (lambda text: None, lambda text: text, lambda text: ""):
        result, _ = edit(worker, monkeypatch, save)
        assert result.stdout == "nothing to change, the settings are at revision 0\n"


def test_refused_text_can_be_edited_again(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    bad = replacing("LIMIT = 10", "LIMIT = 0")
    for more in (bad, replacing("LIMIT = 10", "LIMIT ="), replacing("LIMIT =", "LIMITS =")):
        result, _ = edit(worker, monkeypatch, more, status=1)
        assert "again" not in result.stderr
        assert worker.waffle.revision == 0
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda self: True)
    good = replacing("LIMIT = 0", "LIMIT = 5")
    result, texts = edit(worker, monkeypatch, bad, good, input="y\n")
    assert "refused: LIMIT: it must be at least 1, got 0" in result.stderr
    assert "LIMIT = 0" in texts[1]
    assert worker.waffle.conf["LIMIT"] == 5
    edit(worker, monkeypatch, replacing("LIMIT = 5", "LIMIT = 0"), status=1, input="n\n")


def test_value_of_another_type_is_a_change(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For Python, 1 equals true.
    worker = make_worker(confs={"ON": {"desc": "Switch", "default": True}})
    result, _ = edit(worker, monkeypatch, replacing("ON = true", "ON = 1"), status=1)
    assert "ON: it must be true or false, got an int" in result.stderr


def test_change_of_someone_else_stays(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = make_worker(), make_worker()

    def save(text: str) -> str:
        other.update(SITENAME="Theirs")
        return replacing("LIMIT = 10", "LIMIT = 5")(text)

    edit(worker, monkeypatch, save)
    assert (other.get("SITENAME"), other.get("LIMIT")) == ("Theirs", 5)

    def late(text: str) -> str:
        other.update(LIMIT=6)
        return replacing("LIMIT = 5", "LIMIT = 7")(text)

    result, _ = edit(worker, monkeypatch, late, status=3)
    assert "someone else changed LIMIT while you edited" in result.stderr
    assert other.get("LIMIT") == 6


def test_editor_of_the_environment_is_run_on_a_private_file(
    make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor"
    script.write_text(
        f'stat -c %a "$1" > {tmp_path}/mode\n'
        'sed -i "s/LIMIT = 10/LIMIT = 5/" "$1"\n'
        'touch -d "2030-01-01" "$1"\n'
    )
    # By a shell: nothing in /tmp is executable on some machines.
    monkeypatch.setenv("VISUAL", f"sh {script}")
    worker = make_worker()
    result = worker.app.test_cli_runner().invoke(group, ["edit"])
    assert result.exit_code == 0, result.output
    assert worker.waffle.conf["LIMIT"] == 5
    assert (tmp_path / "mode").read_text() == "600\n"


@pytest.mark.parametrize("script", ['rm "$1"', "printf '\\377\\376' > \"$1\""])
def test_editor_that_leaves_nothing_readable_is_reported(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    worker = make_worker()
    editor = tmp_path / "editor.sh"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    result = worker.app.test_cli_runner().invoke(group, ["edit"])
    assert result.exit_code == 1, repr(result.exception)
    assert result.stderr.startswith("Error: what the editor saved can't be read (")
    assert worker.waffle.revision == 0
