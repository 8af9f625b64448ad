"""The views for probes, on a real uWSGI whose store is stopped, frozen and started again."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from .conftest import StartRedis, StartUwsgi
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.timeout(120)]


def probe(server: UwsgiServer, path: str, worker: int = 1) -> tuple[int, dict[str, Any]]:
    """Return the status and the document that a worker answers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[worker - 1], timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for(server: UwsgiServer, status: int, state: str) -> None:
    def found() -> bool:
        codes = [probe(server, "/readyz", worker) for worker in (1, 2)]
        return all((code, body["state"]) == (status, state) for code, body in codes)

    server.eventually(f"{status} and {state} from each worker", found)
    # What kills a worker and starts another cures nothing that fails here.
    assert probe(server, "/healthz")[0] == 200


def test_workers_stay_ready_while_the_store_is_down_and_new_ones_wait_for_it(
    start_uwsgi: StartUwsgi, make_redis: StartRedis
) -> None:
    redis_server = make_redis(durable=True)
    redis_server.start()
    config = {"WAFFLE_STORE_URL": redis_server.url, "WAFFLE_STORE_TIMEOUT": 0.5}
    server = start_uwsgi("--master", "--lazy-apps", workers=2, config=config)
    wait_for(server, 200, "VALID")
    server.post(1, {"SITENAME": "New"})
    redis_server.freeze()
    wait_for(server, 200, "INTERRUPTED")
    redis_server.thaw()
    wait_for(server, 200, "VALID")
    redis_server.stop()
    wait_for(server, 200, "INTERRUPTED")
    assert server.get(2)["config"]["SITENAME"] == "New"

    server.stop()
    for kept in server.folder.glob("*.last"):
        kept.unlink()
    late = start_uwsgi("--master", "--lazy-apps", workers=2, config=config)
    wait_for(late, 503, "INTERRUPTED")
    _, body = probe(late, "/readyz")
    assert body["reasons"] == ["the store was never read: the declared defaults are served"]
    redis_server.start()
    wait_for(late, 200, "VALID")
