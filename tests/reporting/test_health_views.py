"""The views for probes: what they show, and when they answer 503."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from uwsgi_waffle import State, Status, StoreUnavailable, WaffleConf
from uwsgi_waffle.reporting.health_views import why_not_ready

from ..support.rig import CONFS, MemoryStore, Worker

MakeWorker = Callable[..., Worker]


def probe(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    answer = worker.app.test_client().get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.get_json()
    assert document["ready"] is not bool(document["reasons"])
    return answer.status_code, document


def test_worker_that_is_well_is_ready_and_shows_its_status(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.app.register_blueprint(worker.waffle.health_blueprint())
    worker.waffle.update({"LIMIT": 5})
    for path in ("/healthz", "/readyz"):
        code, document = probe(worker, path)
        assert code == 200
        assert document["reasons"] == []
        shown = {"state", "since", "revision", "applied_revision", "staleness_s", "read_at"}
        shown |= {"pid", "worker_id", "watcher_alive", "failing", "faults", "ready", "reasons"}
        assert set(document) == shown
        assert (document["state"], document["revision"]) == ("VALID", 1)
        assert (document["failing"], document["faults"]) == ([], 0)


def test_store_that_is_down_leaves_a_worker_ready(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.app.register_blueprint(worker.waffle.health_blueprint())
    worker.waffle.update({"LIMIT": 5})
    store.error = StoreUnavailable("no luck")
    with pytest.raises(StoreUnavailable):
        worker.waffle.refresh()
    code, document = probe(worker, "/readyz")
    assert (code, document["state"]) == (200, "INTERRUPTED")
    assert document["failing"] == ["store"]
    assert worker.get("LIMIT") == 5


def test_worker_that_never_read_the_store_lives_but_is_not_ready(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    store.error = StoreUnavailable("no luck")
    worker = make_worker(store=store)
    worker.app.register_blueprint(worker.waffle.health_blueprint())
    code, document = probe(worker, "/readyz")
    assert code == 503
    assert document["reasons"] == ["the store was never read: the declared defaults are served"]
    assert probe(worker, "/healthz")[0] == 200
    assert probe(worker, "/healthz")[1]["ready"] is False
    store.error = None
    worker.waffle.refresh()
    assert probe(worker, "/readyz")[0] == 200


def test_errors_paths_and_names_are_shown_on_request_only(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.app.register_blueprint(worker.waffle.health_blueprint())
    inner = worker.waffle.health_blueprint(
        name="inner", healthz=None, readyz="/inner", details=True
    )
    worker.app.register_blueprint(inner)
    store.write({"LIMIT": "5000"})
    worker.waffle.refresh()
    store.error = StoreUnavailable("postgresql://ann:pass@db is away, hush")
    with pytest.raises(StoreUnavailable):
        worker.waffle.refresh()
    public = str(probe(worker, "/readyz")[1])
    document = probe(worker, "/inner")[1]
    for word in ("ann", "LIMIT", "revision 1"):
        assert word not in public
        assert word in str(document)
    assert "pass" not in str(document)
    assert "hush" not in str(document)
    assert list(document["failing"]) == ["store"]
    assert document["last_error"]["ended_at"] is None
    assert document["served"] == "the settings of revision 1, as last read from the store"


def test_view_that_is_not_wanted_is_not_there(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.app.register_blueprint(
        worker.waffle.health_blueprint(healthz=None, readyz="/ready"), url_prefix="/probe"
    )
    client = worker.app.test_client()
    assert client.get("/probe/healthz").status_code == 404
    assert client.get("/probe/ready").status_code == 200


def test_one_blueprint_serves_several_apps(tmp_path: Path) -> None:
    waffle = WaffleConf()
    blueprint = waffle.health_blueprint()
    clients = []
    for number, name in enumerate(("one", "two")):
        app = Flask(name, instance_path=str(tmp_path / name))
        app.config["WAFFLE_CONFS"] = CONFS
        waffle.init_app(app)
        app.register_blueprint(blueprint)
        with app.app_context():
            for limit in range(number):
                waffle.update({"LIMIT": limit + 1})
        clients.append(app.test_client())
    revisions = [client.get("/readyz").get_json()["revision"] for client in clients]
    assert revisions == [0, 1]


def status(source: str, staleness_s: float | None) -> Status:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    return Status(
        state=State.INTERRUPTED,
        since=now,
        revision=7,
        applied_revision=7,
        source=source,
        staleness_s=staleness_s,
        read_at=None,
        last_error=None,
        failing={},
        faults={},
        refreshes=0,
        failures=0,
        notices="none",
        ear=False,
        pid=1,
        worker_id=1,
        watcher_alive=True,
        watcher_pid=1,
    )


@pytest.mark.parametrize(
    ("source", "staleness_s", "options", "ready"),
    [
        ("store", 3600.0, (False, None), True),
        ("master", None, (False, None), True),
        ("/x.last", None, (False, None), True),
        ("defaults", None, (False, None), False),
        ("defaults", None, (True, None), True),
        ("store", 59.0, (False, 60.0), True),
        ("store", 61.0, (False, 60.0), False),
        ("/x.last", None, (False, 60.0), False),
        ("defaults", None, (True, 60.0), False),
    ],
)
def test_rule_of_readiness(
    source: str, staleness_s: float | None, options: tuple[bool, float | None], ready: bool
) -> None:
    assert (why_not_ready(status(source, staleness_s), *options) == []) is ready
