"""What must hold for the workers of a server in every mode."""

from __future__ import annotations

import itertools
from typing import Any

from .outsider import make_outsider
from .uwsgi_server import UwsgiServer

_names = (f"Site {number}" for number in itertools.count(1))


def assert_watchers_follow_before_any_request(server: UwsgiServer, *, app: str = "site") -> None:
    """Wait until every worker has applied a change of another process, without a request."""
    outsider = make_outsider(server.folder)

    def all_applied() -> bool:
        # Again and again: what a worker reads when it starts is no change to it.
        outsider.update(SITENAME=next(_names))
        applied = {line["pid"] for line in server.applied() if line["app"] == app}
        return len(server.worker_pids()) == server.workers and applied >= server.worker_pids()

    server.eventually("followed by all watchers", all_applied, interval_s=0.1)


def assert_every_worker_follows(
    server: UwsgiServer, *, app: str = "site", path: str = "", watchers: int = 1
) -> list[dict[str, Any]]:
    """Assert that each worker has its one watcher, and follows a change in both ways.

    :param path: the prefix that an app is mounted at.
    :param watchers: of all apps in one interpreter.
    :return: the workers' reports at the end.
    """
    reports = server.reports(path + "/")
    pids = {report["pid"] for report in reports}
    assert [report["worker_id"] for report in reports] == list(range(1, server.workers + 1))
    assert pids == server.worker_pids(), server.evidence()
    for report in reports:
        status = report["status"]
        assert report["watchers"] == watchers, server.evidence()
        assert status["watcher_alive"], server.evidence()
        assert status["watcher_pid"] == report["pid"], server.evidence()

    # At the next request, of every worker, wherever the change was made.
    for writer in range(1, server.workers + 1):
        name = next(_names)
        revision = server.post(writer, {"SITENAME": name}, path + "/update")["revision"]
        for report in server.reports(path + "/"):
            assert report["revision"] == revision, server.evidence()
            assert report["config"]["SITENAME"] == name, server.evidence()
            assert report["conf"]["SITENAME"] == name, server.evidence()

    # Through the watchers alone, without any request.
    answer = server.post(1, {"SITENAME": next(_names)}, path + "/update")
    revision, others = answer["revision"], pids - {answer["pid"]}
    server.eventually(
        f"applied by {others}, at revision {revision}",
        lambda: others <= server.appliers(revision, app),
    )

    reports = server.reports(path + "/")
    assert {report["pid"] for report in reports} == pids, "a worker was replaced meanwhile"
    for report in reports:
        assert report["watchers"] == watchers, server.evidence()
        status = report["status"]
        assert status["state"] == "VALID", f"{status['failing']}\n{server.evidence()}"
    return reports
