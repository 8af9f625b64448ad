"""What stands in the log of a real uWSGI: each start, each change and each fault, and how often."""

from __future__ import annotations

import re

import pytest

from .conftest import StartRedis, StartUwsgi
from .support.outsider import make_outsider

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(120)]
LOADING = {"lazy-apps": ["--lazy-apps"], "prefork": []}


@pytest.mark.parametrize("loading", LOADING.values(), ids=LOADING)
def test_each_worker_logs_its_start_and_one_of_them_each_change(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading, workers=3)
    start = re.compile(
        r"^uwsgi_waffle INFO worker (\d) of site starts, pid (\d+): serving the current settings, "
        r"at revision 0 of <SqliteStore \S+/waffle.db>; notices by watch file$",
        re.MULTILINE,
    )

    def all_started() -> bool:
        return len(start.findall(server.log)) >= 3

    server.eventually("three starts in the log", all_started)
    assert sorted(number for number, _ in start.findall(server.log)) == ["1", "2", "3"]
    assert {int(pid) for _, pid in start.findall(server.log)} == server.worker_pids()
    server.post(2, {"SITENAME": "New"})
    for worker in (1, 2, 3):
        assert server.get(worker)["config"]["SITENAME"] == "New"
    changed = "uwsgi_waffle INFO revision 1 of site: test changed SITENAME\n"
    assert server.log.count(changed) == 1, server.evidence()
    # Made by a process of its own, which logs it, too: none of these does.
    make_outsider(server.folder).update(SITENAME="Newer")
    server.eventually("it is served", lambda: server.get(1)["revision"] == 2)
    assert "revision 2 of site" not in server.log, server.evidence()
    assert "uwsgi_waffle WARNING" not in server.log, server.evidence()


@pytest.mark.redis_server
def test_outage_that_all_workers_have_is_one_line_and_its_end_another(
    start_uwsgi: StartUwsgi, make_redis: StartRedis
) -> None:
    redis = make_redis(durable=True)
    redis.start()
    config = {"WAFFLE_STORE_URL": redis.url, "WAFFLE_STORE_TIMEOUT": 2, "WAFFLE_REPORT_INTERVAL": 0}
    server = start_uwsgi("--master", "--lazy-apps", workers=4, config=config)

    def states() -> set[str]:
        return {report["status"]["state"] for report in server.reports()}

    server.eventually("well", lambda: states() == {"VALID"})
    redis.stop()
    server.eventually("an outage in each worker", lambda: states() == {"INTERRUPTED"})
    refused = re.compile(r"^uwsgi_waffle WARNING store fails: .*refused", re.MULTILINE)
    server.eventually("a line", lambda: refused.search(server.log))
    redis.start()
    server.eventually("the end", lambda: states() == {"VALID"})
    server.eventually("its line", lambda: "store works again after" in server.log)
    # One, if no worker is so slow that it sees another error in between. Only now: a worker has
    # the state before its line is written.
    assert 1 <= len(refused.findall(server.log)) < 4, server.evidence()
