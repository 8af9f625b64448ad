"""By what a process announces its changes, and what its watcher waits for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.process.notices import Notices
from uwsgi_waffle.process.page import Page

from ..support.rig import StubNotifier

_LOADS_IN_THREAD = """
import sys, threading
from pathlib import Path
from uwsgi_waffle.process.notices import Notices
from uwsgi_waffle.process.page import Page

folder = Path(sys.argv[1])
notices = Notices(folder / "waffle.watch", channel="", make_channel=None, poll_interval_s=0.005)
listener = notices.listener(Page(folder / "waffle.page"))
before = set(sys.modules)
watcher = threading.Thread(target=listener.wait, args=(0.0,))
watcher.start()
watcher.join()
print(sorted(set(sys.modules) - before))
"""


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path / "waffle.page")


def notices(folder: Path, make_channel: Callable[[], Notifier] | None) -> Notices:
    return Notices(
        folder / "waffle.watch", channel="stub", make_channel=make_channel, poll_interval_s=0.005
    )


def test_host_alone_announces_and_hears_by_its_files(tmp_path: Path, page: Page) -> None:
    alone = notices(tmp_path, None)
    assert alone.publisher() is None
    assert alone.listener(page).name == alone.host().name
    alone.host().announce(7)
    assert alone.host().mark().revision == 7


def test_channel_is_opened_at_the_first_announcement(tmp_path: Path, page: Page) -> None:
    made: list[StubNotifier] = []

    def make() -> Notifier:
        made.append(StubNotifier())
        return made[-1]

    publisher = notices(tmp_path, make).publisher()
    assert publisher is not None
    assert (publisher.name, made) == ("stub", [])
    publisher.announce(7)
    assert [each.announced for each in made] == [[7]]


def test_one_process_of_a_host_hears_the_channel(tmp_path: Path, page: Page) -> None:
    channel = StubNotifier()
    channel.put(Notice(None))
    listener = notices(tmp_path, lambda: channel).listener(page)
    try:
        assert listener.name == "stub"
        assert listener.wait(0.005) == Notice(None)
        assert listener.is_ear
    finally:
        listener.close()


def test_thread_that_waits_loads_no_module(tmp_path: Path) -> None:
    """Its memory is apart: what it loads takes more there."""
    command = [sys.executable, "-c", _LOADS_IN_THREAD, str(tmp_path)]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout == "[]\n"
