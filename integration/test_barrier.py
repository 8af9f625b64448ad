"""The barrier on real servers: killed, stopped, busy and new workers, and two hosts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartUwsgi
from .support.redis_server import RedisServer
from .support.uwsgi_server import APPS, UwsgiServer
from .support.waiting import eventually

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(180)]

WAIT_S = 20.0


def waited(server: UwsgiServer, worker: int = 1, timeout_s: float = WAIT_S, **more: Any) -> Any:
    return server.post(worker, {"timeout_s": timeout_s, **more}, "/wait")


def stop(pids: Iterable[int]) -> None:
    """Stop processes; kill() returns before all their threads stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        for task in Path(f"/proc/{pid}/task").iterdir():
            eventually(f"{task} stands still", lambda task=task: _state(task) == "T")  # type: ignore[misc]


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def by_redis(server: RedisServer) -> dict[str, Any]:
    """Return the configuration of a host that answers by Redis soon only if it is asked."""
    return {
        "WAFFLE_WATCHTYPE": "redis",
        "WAFFLE_REDIS_URL": server.url,
        "WAFFLE_STORE_URL": server.url,
        "WAFFLE_REPORT_INTERVAL": 600,
        "WAFFLE_RESYNC_INTERVAL": 600,
    }


def revisions(server: UwsgiServer, workers: Any) -> list[int]:
    return [server.get(worker, "/read")[0] for worker in workers]


def test_workers_of_one_host_are_all_counted_and_none_is_waited_for(
    start_uwsgi: StartUwsgi,
) -> None:
    server = start_uwsgi("--master", workers=4)
    assert len(server.reports()) == 4
    answer = waited(server, values={"SITENAME": "New"}, expected=4)
    assert (answer["served"], answer["laggards"]) == (4, [])
    assert revisions(server, [2, 3, 4]) == [1, 1, 1]

    # Stopped: it looks before it serves, but can't say which requests run.
    stopped = server.get(2)["pid"]
    stop([stopped])
    try:
        answer = waited(server, values={"SITENAME": "Stopped"}, expected=4)
        assert (answer["served"], answer["laggards"]) == (4, [])

        def only_the_stopped() -> Any:
            busy = waited(server, revision=answer["revision"], timeout_s=0.3, drained=True)
            # On a busy machine another one may not have answered in time.
            assert [each["pid"] for each in busy["laggards"]] == [stopped], busy
            return busy["laggards"][0]

        assert "stopped" in server.eventually("one laggard", only_the_stopped)["why"]
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert server.get(2, "/read")[0] == answer["revision"]

    # Killed: it is out at once, and the one that comes for it reads before it serves.
    os.kill(stopped, signal.SIGKILL)
    answer = waited(server, values={"SITENAME": "Killed"}, drained=True)
    assert answer["laggards"] == []
    assert revisions(server, range(1, 5)) == [answer["revision"]] * 4
    answer = waited(server, revision=answer["revision"], expected=4)
    assert (answer["served"], answer["laggards"]) == (4, []), server.evidence()


def test_drained_waits_for_the_requests_that_began_before(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    server.reports()
    seen: list[Any] = []
    slow = threading.Thread(target=lambda: seen.append(server.get(2, "/read?pause_s=3")))
    slow.start()
    try:
        answer = waited(server, values={"SITENAME": "New"}, timeout_s=0.0)
        began_before = waited(server, revision=answer["revision"], timeout_s=0.5, drained=True)
        assert answer["laggards"] == []
    finally:
        slow.join()
    # On a machine that is slow enough the request began after the change.
    if seen[0][0] == 0:
        whys = [each["why"] for each in began_before["laggards"]]
        assert whys in (["a request runs that began before"], []), server.evidence()
    answer = waited(server, revision=answer["revision"], drained=True)
    assert answer["laggards"] == []


@pytest.mark.redis_server
def test_other_host_answers_through_the_channel_and_is_named_when_it_can_not(
    start_uwsgi: StartUwsgi, tmp_path: Path, redis_server: RedisServer
) -> None:
    # The bound is waited for at the end, where the server stands still.
    config = {**by_redis(redis_server), "WAFFLE_STORE_TIMEOUT": 3}
    hosts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        hosts.append(start_uwsgi("--master", "--lazy-apps", folder=folder, config=config))
        hosts[-1].reports()
    one, two = hosts
    answer = waited(one, values={"SITENAME": "Both"}, expected=4)
    assert (answer["served"], answer["laggards"]) == (4, []), one.evidence() + two.evidence()
    assert revisions(two, [1, 2]) == [answer["revision"]] * 2
    for number in range(5):
        answer = waited(one, values={"A": number, "B": number})
        assert answer["laggards"] == []
        assert revisions(two, [1, 2]) == [answer["revision"]] * 2

    slow = threading.Thread(target=lambda: two.get(2, "/read?pause_s=3"))
    slow.start()
    answer = waited(one, values={"SITENAME": "Drained"}, timeout_s=0.0)
    waited(one, revision=answer["revision"], timeout_s=1.0, drained=True)
    slow.join()
    answer = waited(one, revision=answer["revision"], drained=True, expected=4)
    assert (answer["served"], answer["laggards"]) == (4, []), one.evidence() + two.evidence()

    pids = two.worker_pids()
    stop(pids)
    answer = waited(one, values={"SITENAME": "Stopped"}, timeout_s=0.5)
    assert [each["why"] for each in answer["laggards"]] == ["the host has not answered yet"]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert waited(one, revision=answer["revision"], expected=4)["laggards"] == []

    redis_server.freeze()
    try:
        answer = waited(one, revision=answer["revision"], timeout_s=0.1)
        assert "which other hosts there are is not known" in answer["laggards"][0]["why"]
    finally:
        redis_server.thaw()
    assert waited(one, revision=answer["revision"])["laggards"] == []


@pytest.mark.redis_server
def test_one_answer_speaks_for_all_apps_that_share_a_page(
    start_uwsgi: StartUwsgi, tmp_path: Path, redis_server: RedisServer
) -> None:
    config = by_redis(redis_server)
    servers = []
    for folder, app in [("one", "serve.py"), ("two", "serve.py"), ("two", "other.py")]:
        (tmp_path / folder).mkdir(exist_ok=True)
        options = ["--master", "--lazy-apps", f"--mount=/={APPS / app}", "--callable=app"]
        server = start_uwsgi(*options, workers=1, folder=tmp_path / folder, config=config)
        server.reports()
        servers.append(server)
    one, *two = servers
    for number, drained in enumerate([False, True] * 2, start=1):
        answer = waited(
            one, values={"A": number, "B": number}, timeout_s=WAIT_S, drained=drained, expected=3
        )
        evidence = "".join(each.evidence() for each in servers)
        assert (answer["served"], answer["laggards"]) == (3, []), evidence
        assert [each.get(1, "/read")[0] for each in two] == [answer["revision"]] * 2
