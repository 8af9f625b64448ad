"""``flask waffle workers``: who is there, who is stale, and the exit status."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import ScriptInfo

from uwsgi_waffle.cli import group
from uwsgi_waffle.reporting.host_rows import KEPT_S, HostRow
from uwsgi_waffle.stores import Store
from uwsgi_waffle.testing.report_contract import a_report

from ..support.host_rows import a_host
from ..support.rig import MemoryStore, Worker

MakeWorker = Callable[..., Worker]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def run(worker: Worker, *arguments: str, status: int = 0) -> Result:
    result = worker.app.test_cli_runner().invoke(group, ["workers", *arguments])
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


def test_workers_of_all_hosts_are_listed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    revision = worker.waffle.update({"LIMIT": 5})
    store = worker.state.store
    store.report(a_report(revision=revision))
    store.report(a_report(host="web2", pid=5, worker_id=0, revision=revision, staleness_s=None))
    header, one, two = run(worker).stdout.splitlines()
    assert header.split() == ["APP", "HOST", "PID", "WORKER", "REV", "BEHIND", *header.split()[6:]]
    assert one.split()[:7] == ["shop", "web1", "101", "1", "1", "-", "VALID"]
    assert two.split()[:8] == ["shop", "web2", "5", "-", "1", "-", "VALID", "never"]


def test_one_that_is_behind_is_shown_and_makes_status_one(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    for limit in range(1, 4):
        worker.waffle.update({"LIMIT": limit})
    store = worker.state.store
    store.report(a_report(revision=3))
    error = "store: it is down\x1b[31m " + "x" * 200
    store.report(a_report(pid=102, revision=1, state="INTERRUPTED", last_error=error))
    lines = run(worker, status=1).stdout.splitlines()
    assert lines[2].split()[:7] == ["shop", "web1", "102", "1", "1", "2", "INTERRUPTED"]
    assert "store: it is" in lines[2]
    assert all(line.isprintable() for line in lines)
    monkeypatch.setattr("uwsgi_waffle.cli.tables.is_terminal", lambda: True)
    assert all(len(line) <= 100 for line in run(worker, status=1).stdout.splitlines())


def test_fewer_than_expected_make_status_one(make_worker: MakeWorker) -> None:
    worker = make_worker()
    result = run(worker, "--expect", "1", status=1)
    assert "0 of 1 worker reported" in result.stderr
    worker.state.store.report(a_report(revision=0))
    worker.state.store.report(a_report(revision=0, pid=102))
    run(worker, "--expect", "2")
    assert (
        "2 of 3 workers reported" in run(worker, "--expect", "3", "--wait", "0.3", status=1).stderr
    )


def test_json_has_everything(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 5})
    worker.state.store.report(a_report(revision=0, last_error="watch file: gone"))
    document: dict[str, Any] = json.loads(run(worker, "--json", status=1).stdout)
    (told,) = document["workers"]
    assert document["revision"] == 1
    assert told.pop("age_s") >= 0
    assert told.pop("staleness_s") >= 0.25
    assert told == {
        "app": "shop",
        "host": "web1",
        "pid": 101,
        "worker_id": 1,
        "revision": 0,
        "behind": 1,
        "ear": False,
        "state": "VALID",
        "last_error": "watch file: gone",
        "lifetime_s": 3600.0,
    }


def test_ear_of_each_host_is_marked(make_worker: MakeWorker) -> None:
    worker = make_worker()
    store = worker.state.store
    store.report(a_report(revision=0))
    store.report(a_report(revision=0, pid=102, last_error="store: gone"))
    assert "EAR" not in run(worker).stdout
    row = msgspec.json.encode(HostRow("", processes=2, ears=[102])).decode()
    store.report(a_report(pid=-5, last_error=row, lifetime_s=KEPT_S))
    header, first, second = run(worker).stdout.splitlines()
    assert header.split()[-2:] == ["EAR", "ERROR"]
    assert (first.split()[-1], second.split()[-4:]) == ("-", ["s", "ear", "store:", "gone"])
    listed = json.loads(run(worker, "--json").stdout)["workers"]
    assert [(each["pid"], each["ear"]) for each in listed] == [(101, False), (102, True)]


def test_ear_of_this_host_is_marked_before_its_row_is_written(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    host, pid = os.uname().nodename, os.getpid()
    worker.state.store.report(a_report(host=host, pid=pid, revision=0))
    worker.manager.watch(on=True, ear=True)
    (listed,) = json.loads(run(worker, "--json").stdout)["workers"]
    assert listed["ear"]


def test_worker_that_is_ahead_of_what_was_read_is_not_stale(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.report(a_report(revision=9))
    assert json.loads(run(worker, "--json").stdout)["workers"][0]["behind"] == 0


def test_wait_lasts_until_all_have_followed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 5})
    store = worker.state.store
    store.report(a_report(revision=0))
    run(worker, "--wait", "0.01", status=1)
    follow = threading.Timer(0.3, lambda: store.report(a_report(revision=1)))
    follow.start()
    try:
        run(worker, "--wait", "20")
    finally:
        follow.join()


def test_wait_is_not_over_before_a_worker_has_reported(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert "0 of 1 worker reported" in run(worker, "--wait", "0.01", status=1).stderr
    appear = threading.Timer(0.3, lambda: worker.state.store.report(a_report(revision=0)))
    appear.start()
    try:
        run(worker, "--wait", "20")
    finally:
        appear.join()


def test_nobody_is_told_with_the_reasons(make_worker: MakeWorker) -> None:
    assert "no worker has reported" in run(make_worker(store=MemoryStore())).stdout
    assert "no worker has reported" in run(make_worker()).stdout


def test_command_that_can_not_look_is_not_counted_among_the_workers(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    worker.state.store.report(a_report(revision=0))
    monkeypatch.setattr(worker.manager, "is_current", lambda: False)
    for expected in ([], ["--expect", "4"]):
        result = run(worker, "--wait", "0.01", *expected, status=1)
        first = "revision 0 stands, but is served by 0 of an unknown number"
        assert result.stderr.splitlines()[0] == first
        assert "other changes are under way" in result.stderr
        assert "reported" not in result.stderr


def test_wait_after_a_change_names_who_does_not_serve_it(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    runner = worker.app.test_cli_runner()
    result = runner.invoke(group, ["set", "LIMIT=5", "--wait", "0"])
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "served by 1 of 1")
    worker.state.store.report(a_report(revision=1))
    result = runner.invoke(group, ["set", "LIMIT=6", "--wait", "0.01"])
    assert result.exit_code == 5
    assert "revision 2 stands, but is served by 1 of 2" in result.stderr
    assert "web1 worker 1 (pid 101) at revision 1: its report does not show it yet" in result.stderr
    result = runner.invoke(group, ["reset", "LIMIT", "--wait", "0", "--dry-run"])
    assert (result.exit_code, worker.waffle.revision) == (0, 2)


def test_ctrl_c_while_a_change_is_waited_for_does_not_say_that_nothing_was_written(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    worker = make_worker()
    monkeypatch.setattr(type(worker.state), "wait", interrupt)
    result = worker.app.test_cli_runner().invoke(group, ["set", "LIMIT=5", "--wait", "9"])
    assert (result.exit_code, result.stderr) == (5, "Error: stopped waiting: revision 1 stands\n")


@pytest.mark.parametrize("command", [["set", "LIMIT=5", "--wait"], ["workers", "--wait"]])
def test_wait_for_what_is_no_time_is_refused(make_worker: MakeWorker, command: list[str]) -> None:
    worker = make_worker()
    for text in ("nan", "10s"):
        result = worker.app.test_cli_runner().invoke(group, [*command, text])
        assert result.exit_code == 2
        assert f"'{text}' is not a valid number of seconds." in result.stderr
    assert worker.waffle.refresh() == 0


def test_wait_shows_what_is_served_though_reports_are_older(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    worker.waffle.update({"LIMIT": 5})
    store, host, pid = worker.state.store, os.uname().nodename, os.getpid()
    store.report(a_report(host=host, pid=pid, revision=0))
    run(worker, status=1)
    told = json.loads(run(worker, "--wait", "0", "--expect", "1", "--json").stdout)["workers"]
    assert [(each["pid"], each["behind"]) for each in told] == [(pid, 0)]


def test_process_that_has_not_reported_yet_is_listed_when_it_was_waited_for(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    header, line = run(worker, "--wait", "0", "--expect", "1").stdout.splitlines()
    assert header.split()[:3] == ["APP", "HOST", "PID"]
    assert line.split()[2:8] == [str(os.getpid()), "-", "0", "-", "STARTING", "-"]


def test_host_that_is_gone_can_be_forgotten(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    worker.waffle.update({"LIMIT": 5})
    store = worker.state.store
    store.report(a_report(revision=1))
    row = a_report(pid=-7, worker_id=0, revision=1, state="HOST", last_error="damaged")
    store.report(row)
    assert "web1 at revision 1: its row is damaged" in run(worker, "--wait", "0", status=1).stderr
    assert len(run(worker).stdout.splitlines()) == 2
    assert "web1: removed 2 reports" in run(worker, "--forget", "web1", "--wait", "0").stderr
    assert "no host web1 has reported" in run(worker, "--forget", "web1", status=1).stderr


def test_hosts_are_forgotten_together_and_one_that_may_live_is_not_waited_for(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    store = worker.state.store
    store.report(a_report(revision=0))
    store.report(a_host(0, silent_s=-1.0))
    result = run(worker, "--forget", "web1", "--forget", "web3", "--forget", "web2", status=1)
    assert "Error: no host web3 has reported" in result.stderr
    assert list(store.workers(KEPT_S)) == []
    assert "s ago; if it lives, it is not waited for until it reports again" in result.stderr
    assert "web2: reported" not in result.stderr


def test_host_that_is_silent_is_named_and_makes_status_one(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    worker.waffle.update({"LIMIT": 5})
    worker.state.store.report(a_report(revision=1))
    worker.state.store.report(a_host(1, processes=3, silent_s=-1.0))
    result = run(worker, status=1)
    assert len(result.stdout.splitlines()) == 2
    assert "web2 (3 processes) at revision 1: the host is silent for" in result.stderr
    assert "flask waffle workers --forget web2" in result.stderr
    waited = run(worker, "--wait", "0", status=1).stderr
    assert waited.count("the host is silent for") == 1
    (host,) = json.loads(run(worker, "--json", status=1).stdout)["silent_hosts"]
    assert host.pop("age_s") >= 0
    assert host == {"host": "web2", "processes": 3}
    run(worker, "--forget", "web2")


def test_apps_that_share_the_page_of_a_silent_host_are_named_once(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    host = a_host(0, processes=3, silent_s=-1.0, page="p")
    worker.state.store.report(host)
    worker.state.store.report(host._replace(app="shop-api"))
    assert run(worker, status=1).stderr.count("web2 (3 processes)") == 1
    worker.state.store.report(a_host(0, silent_s=-1.0)._replace(pid=-6))
    assert run(worker, status=1).stderr.count("the host is silent") == 2


def test_workers_of_a_host_that_has_not_answered_are_counted(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.get("LIMIT")
    worker.waffle.update({"LIMIT": 5})
    worker.state.store.report(a_host(1, processes=3))
    result = run(worker, "--wait", "0", "--expect", "4", status=1)
    assert "revision 1 stands, but is served by 1 of 4" in result.stderr
    result = run(worker, "--wait", "0", "--expect", "5", status=1)
    assert "4 of 5 workers reported" in result.stderr


def test_of_hosts_with_one_name_those_that_live_are_not_forgotten(make_worker: MakeWorker) -> None:
    worker = make_worker()
    store = worker.state.store
    store.report(a_host(0, processes=2))
    store.report(a_report(host="web2", revision=0))
    store.report(a_host(0, silent_s=-1.0)._replace(pid=-6))
    result = run(worker, "--forget", "web2")
    assert "web2: removed 1 report\n" in result.stderr
    assert sorted(each.pid for each in store.workers(KEPT_S)) == [-5, 101]


def test_command_on_a_host_that_never_served_waits_for_the_others(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    store = make_worker().state.store
    store.prepare()
    store.write({"LIMIT": "5"})
    store.report(a_report(revision=1))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    worker = Worker(elsewhere, store=store)
    page = worker.manager.page
    page.path.unlink(missing_ok=True)
    page.may_make = False
    assert worker.state.wait(1, timeout_s=0).served == 1
    assert not page.path.exists()
    worker.close()


def test_command_is_no_process_that_serves_though_each_process_is_to_have_a_watcher(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker(WAFFLE_MULTIPROC=True)

    def create_app() -> Flask:
        # As a factory does that makes its tables, and warms up its templates.
        with worker.app.app_context():
            worker.get("LIMIT")
            return worker.app

    for arguments, said in (
        (["workers", "--wait", "0", "--expect", "1"], "no worker has reported"),
        (["set", "LIMIT=5", "--wait", "1"], "no process serves this app"),
    ):
        result = CliRunner().invoke(group, arguments, obj=ScriptInfo(create_app=create_app))
        assert said in result.output
        assert not worker.state.engine.watching
        assert worker.manager.slots.living() == []
    # The same process may serve later.
    assert worker.get("LIMIT") == 5
    run(worker, "--wait", "1", "--expect", "1")
    assert worker.state.engine.watching


@pytest.mark.parametrize("what", ["no interval", "no reports", "reports"])
def test_who_waits_is_told_if_other_hosts_are_not_known(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    worker = make_worker(WAFFLE_REPORT_INTERVAL=0 if what == "no interval" else 10)
    worker.get("LIMIT")
    if what == "no reports":
        for name in ("report", "workers"):
            monkeypatch.setattr(type(worker.state.store), name, getattr(Store, name))
    for arguments in (["set", "LIMIT=5", "--wait", "1"], ["workers", "--wait", "1"]):
        result = worker.app.test_cli_runner().invoke(group, arguments)
        assert result.exit_code == 0
        assert ("other hosts are not known" in result.stderr) is (what != "reports")


@pytest.mark.parametrize("command", [["workers", "--expect"], ["history", "--limit"], ["rollback"]])
def test_number_that_is_none_is_called_a_whole_number(
    make_worker: MakeWorker, command: list[str]
) -> None:
    result = make_worker().app.test_cli_runner().invoke(group, [*command, "x"])
    assert result.exit_code == 2
    assert "'x' is not a valid whole number." in result.stderr
