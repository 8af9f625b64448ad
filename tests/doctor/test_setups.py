"""The doctor on whole set-ups: the broken are found with their fix, the healthy left alone."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from uwsgi_waffle import StoreUnavailable, doctor
from uwsgi_waffle.checks import Finding
from uwsgi_waffle.doctor import workers as doctor_workers
from uwsgi_waffle.ini import snippet_text
from uwsgi_waffle.process.locks import lock_shared
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.stores.base import WorkerReport
from uwsgi_waffle.testing.forked import children

from ..support.rig import CONFS, NOBODY, MemoryStore, Worker, ordinary_user

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


class Site:
    """A folder, an app in it, and processes of other users; all of it ends with the test."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self.folder = folder
        self._ends = ends

    def app(self, **options: object) -> Worker:
        worker = Worker(self.folder, **options)  # type: ignore[arg-type]
        self._ends.callback(worker.close)
        return worker

    def process_of(self, uid: int) -> int:
        """Start a process of a user; return its pid once it is one."""

        def run(_: int) -> None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            time.sleep(60)

        ((pid, _),) = self._ends.enter_context(children(1, run))
        deadline = time.monotonic() + 20
        while os.stat(f"/proc/{pid}").st_uid != uid:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return pid

    def busy_writer(self, page_file: Path) -> None:
        """Start a process that holds a page again and again, nearly all the time."""

        def run(_: int) -> None:
            own = Page(page_file)
            while True:
                with own.change() as change:
                    change.open()
                    time.sleep(0.02)

        self._ends.enter_context(children(1, run))

    def stopped_writer(self, page_file: Path) -> int:
        """Start a process that was stopped while it held a page; return its pid."""

        def run(_: int) -> None:
            lock_shared(page_file)
            os.kill(os.getpid(), signal.SIGSTOP)

        ((pid, _),) = self._ends.enter_context(children(1, run))
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return pid


def report(worker: Worker, pid: int = 1, **fields: object) -> None:
    """Have a process report itself, by default one that is well."""
    told = WorkerReport(
        "shop", os.uname().nodename, pid, 1, worker.state.refresh().revision, 0.1, "VALID", None, 60
    )
    worker.state.store.report(told._replace(**fields))  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "instance"
    folder.mkdir(mode=0o755)
    with ExitStack() as ends:
        yield Site(folder, ends)


def page(worker: Worker) -> Path:
    return worker.state.page_file


def made_by_root(site: Site) -> Worker:
    worker = site.app()
    os.chown(site.folder, NOBODY, NOBODY)
    return worker


def workers_of_another_user(site: Site) -> Worker:
    worker = site.app()
    report(worker, site.process_of(NOBODY))
    return worker


def open_to_others(site: Site) -> Worker:
    worker = site.app()
    site.folder.chmod(0o777)
    return worker


def page_open_to_others(site: Site) -> Worker:
    worker = site.app()
    worker.waffle.update({"LIMIT": 20})
    page(worker).chmod(0o666)
    return worker


def page_that_is_a_folder(site: Site) -> Worker:
    worker = site.app()
    worker.waffle.update({"LIMIT": 20})
    page(worker).unlink()
    page(worker).mkdir()
    return worker


def page_that_a_stopped_process_holds(site: Site) -> Worker:
    worker = site.app(WAFFLE_WRITE_TIMEOUT=0.3)
    worker.waffle.update({"LIMIT": 20})
    site.stopped_writer(page(worker))
    return worker


def last_known_open_to_others(site: Site) -> Worker:
    worker = site.app()
    worker.waffle.update({"LIMIT": 20})
    worker.state.last_known_file.touch()
    worker.state.last_known_file.chmod(0o646)
    return worker


def store_away(site: Site) -> Worker:
    store = MemoryStore()
    worker = site.app(store=store)
    store.error = StoreUnavailable("no route to the database")
    return worker


def value_that_does_not_fit(site: Site) -> Worker:
    worker = site.app()
    worker.state.store.write({"LIMIT": "5000"})
    worker.state.notices.host().announce(1)
    return worker


def setting_that_is_gone(site: Site) -> Worker:
    site.app().waffle.update({"LIMIT": 20})
    return site.app(confs={"SITENAME": CONFS["SITENAME"]})


def watch_file_that_is_a_folder(site: Site) -> Worker:
    worker = site.app()
    worker.state.options.watcher_file.unlink()
    worker.state.options.watcher_file.mkdir()
    return worker


def worker_that_is_behind(site: Site) -> Worker:
    worker = site.app()
    worker.waffle.update({"LIMIT": 20})
    report(worker, 77, host="web2", revision=0)
    return worker


def workers_that_fail(site: Site) -> Worker:
    worker = site.app()
    for pid in range(100, 164):
        report(worker, pid, host="web2", state="INTERRUPTED", last_error="redis: away")
    return worker


def no_redis(site: Site) -> Worker:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    return site.app(
        store=MemoryStore(),
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_URL=f"redis://127.0.0.1:{port}/0",
        WAFFLE_REDIS_CHANNEL="shop",
        WAFFLE_REDIS_TIMEOUT=0.2,
    )


class Hasty(MemoryStore):
    """A database that confirms what is not on its disk."""

    def loses_changes(self) -> str | None:
        return "synchronous_commit = off"


def hasty_database(site: Site) -> Worker:
    return site.app(store=Hasty())


# How the set-up is made, the one finding that it has, where that shows, and what the fix names.
BROKEN: dict[str, tuple[Callable[[Site], Worker], str, str, str]] = {
    "files of root in another's folder": (
        made_by_root,
        "D019",
        "waffle.db is -rw-rw---- root:root: nobody, who owns the folder, can't write it",
        "chown --reference",
    ),
    "workers of another user": (
        workers_of_another_user,
        "D019",
        "root:root: nobody, as whom workers run, can't write it",
        "chown --reference",
    ),
    "folder that is open to others": (open_to_others, "D011", "instance is drwxrwxrwx", "o-w"),
    "page that is open to others": (page_open_to_others, "D011", ".page is -rw-rw-rw-", "o-w"),
    "page that is a folder": (page_that_is_a_folder, "D023", ".page can't be", "WAFFLE_PAGE_FILE"),
    "page that a stopped process holds": (
        page_that_a_stopped_process_holds,
        "D024",
        ", stopped)",
        "kill -CONT",
    ),
    "last known values that are open to others": (
        last_known_open_to_others,
        "D011",
        ".last is -rw-r--rw-",
        "o-w",
    ),
    "store that is away": (store_away, "D002", "no route", "WAFFLE_STORE_URL"),
    "value that does not fit": (value_that_does_not_fit, "D005", "LIMIT: ", "flask waffle set"),
    "setting that is gone": (setting_that_is_gone, "D006", "LIMIT", "flask waffle prune"),
    "watch file that is a folder": (
        watch_file_that_is_a_folder,
        "D007",
        "waffle.watch",
        "WAFFLE_WATCHER_FILE",
    ),
    "worker that is behind": (
        worker_that_is_behind,
        "D020",
        "shop on web2, pid 77, worker 1: at revision 0 of 1",
        "restart it",
    ),
    "64 workers that fail": (
        workers_that_fail,
        "D018",
        "shop on web2, 64 processes (pids 100, 101, 102 and 61 more): redis: away",
        "flask waffle workers",
    ),
    "Redis that is away": (no_redis, "D012", "redis://127.0.0.1", "WAFFLE_REDIS_URL"),
    "database that confirms too early": (
        hasty_database,
        "D021",
        "synchronous_commit = off",
        "synchronous_commit = on",
    ),
}


@needs_root
@pytest.mark.parametrize(("make", "id_", "detail", "fix"), BROKEN.values(), ids=BROKEN)
def test_broken_set_up_is_found_with_its_fix(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Site], Worker],
    id_: str,
    detail: str,
    fix: str,
) -> None:
    monkeypatch.setattr(doctor_workers, "FOLLOWED_WITHIN_S", 0.3)
    worker = make(site)
    (found,) = doctor.examine(worker.state).findings
    assert found.id == id_
    assert detail in found.detail
    assert fix in found.fix


def found_in(worker: Worker, ini: Path | None = None) -> tuple[Finding, ...]:
    return doctor.examine(worker.state, ini=None if ini is None else str(ini)).findings


@needs_root
def test_command_of_root_in_the_folder_of_the_workers_is_healthy(site: Site) -> None:
    os.chown(site.folder, NOBODY, NOBODY)
    worker = site.app()
    for path in site.folder.iterdir():
        os.chown(path, NOBODY, NOBODY)
    worker.waffle.update({"LIMIT": 20})
    report(worker, site.process_of(NOBODY))
    assert found_in(worker) == ()
    assert worker.state.options.watcher_file.stat().st_uid == NOBODY


def test_emperor_and_its_vassal_are_healthy(site: Site) -> None:
    emperor, vassal = site.folder / "emperor.ini", site.folder / "shop.ini"
    emperor.write_text(
        "[uwsgi]\nemperor = .\nemperor-wrapper = /venv/bin/uwsgi\nbinary-path = /venv/bin/python\n"
    )
    vassal.write_text(snippet_text() + "module = shop\nbinary-path = /venv/bin/python\n")
    worker = site.app()
    assert found_in(worker, emperor) == ()
    assert found_in(worker, vassal) == ()


@needs_root
def test_container_whose_user_has_no_name_is_healthy(open_folder: Path) -> None:
    uid = 4_200_000
    os.chown(open_folder, uid, uid)
    with ordinary_user(uid):
        worker = Worker(open_folder)
        worker.waffle.update({"LIMIT": 20})
        found = found_in(worker)
        worker.close()
    assert found == ()


def test_two_hosts_on_one_store_are_healthy(site: Site, tmp_path: Path) -> None:
    store = MemoryStore()
    one, other = site.app(store=store), Worker(tmp_path, store=store)
    other.waffle.update({"LIMIT": 20})
    # The numbers of another host's processes are those of strangers here.
    report(one, os.getpid(), host="web2")
    report(one, 1, host="web3", state="VALID", last_error="redis: was away")
    assert found_in(one) == ()
    assert found_in(other) == ()
    other.close()


def test_process_that_makes_one_change_after_the_other_is_healthy(site: Site) -> None:
    worker = site.app(WAFFLE_WRITE_TIMEOUT=2)
    worker.waffle.update({"LIMIT": 20})
    site.busy_writer(page(worker))
    for _ in range(3):
        assert found_in(worker) == ()
