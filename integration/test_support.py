"""The runner and the wait that all tests with servers lean on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from .support.mariadb_server import MariadbServer
from .support.postgres_server import PostgresServer
from .support.processes import Process, clean_environment, free_port, is_free
from .support.uwsgi_server import ROOT
from .support.waiting import NotInTime, eventually

#: prints the pid of a child that takes no notice of what asks it to end
PARENT = """
import os, signal, sys, time
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.argv[1] == "leave the group":
        os.setsid()
    time.sleep(600)
print("child", pid, flush=True)
time.sleep(600)
"""


def parent(folder: Path, how: str = "stay") -> Process:
    return Process(
        "parent",
        [sys.executable, "-c", PARENT, how],
        env=clean_environment(),
        cwd=folder,
        log=folder / "log",
        ready=lambda log: log.endswith("\n"),
    )


def child_of(process: Process) -> psutil.Process:
    return psutil.Process(int(process.log.split()[-1]))


@pytest.mark.parametrize("how", ["stay", "leave the group"])
@pytest.mark.parametrize("ending", ["stop", "end"])
def test_end_of_a_process_is_the_end_of_all_it_has_forked(
    tmp_path: Path, how: str, ending: str
) -> None:
    process = parent(tmp_path, how)
    child = child_of(process)
    getattr(process, ending)()
    assert process.ended
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_child_that_outlives_its_parent_is_ended_too(tmp_path: Path) -> None:
    process = parent(tmp_path)
    child = child_of(process)
    process.send(signal.SIGKILL)
    process.wait_for_end()
    assert [each.pid for each in process.descendants()] == [child.pid]
    process.stop()
    assert process.descendants() == []


def test_frozen_process_stands_still_with_its_children_until_it_is_thawed(tmp_path: Path) -> None:
    with parent(tmp_path, "leave the group") as process:
        everyone = [psutil.Process(process.pid), child_of(process)]
        process.freeze()
        assert {each.status() for each in everyone} == {psutil.STATUS_STOPPED}
        process.thaw()
        process.eventually(
            "awake", lambda: psutil.STATUS_STOPPED not in {each.status() for each in everyone}
        )


def test_log_of_a_second_start_does_not_show_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        with parent(tmp_path) as process:
            assert process.log.count("child") == 1


def test_program_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    process = Process(
        "false",
        [sys.executable, "-c", "print('no port')"],
        env=clean_environment(),
        cwd=tmp_path,
        log=tmp_path / "log",
        ready=lambda log: False,
    )
    assert process.ended
    assert "no port" in process.evidence()


def test_wait_that_is_in_vain_shows_the_last_answer_and_the_evidence() -> None:
    def probe() -> None:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(NotInTime, match=r"(?s)not up within 0.01 s.*nobody listens.*the log"):
        eventually("up", probe, evidence=lambda: "the log", deadline_s=0.01)


def test_error_in_a_probe_ends_the_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually("computed", lambda: 1 / 0)


def test_port_is_given_once_only_and_to_one_of_the_parallel_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: dict[str, list[int]] = {}
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        ports[worker] = [free_port() for _ in range(20)]
        assert len(set(ports[worker])) == 20
        assert all(map(is_free, ports[worker]))
    assert not set(ports["gw0"]) & set(ports["gw1"])


def test_program_that_takes_ports_itself_takes_those_of_its_tests_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw2")
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "5")
    done = subprocess.run(
        [sys.executable, "-c", "from integration.support.processes import *; print(free_port())"],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) % 5 == 2


def test_mariadb_keeps_temporary_tables_where_the_start_of_another_removes_none(
    mariadb: MariadbServer,
) -> None:
    assert mariadb.ask("SELECT @@tmpdir") == ((str(mariadb.folder / "tmp"),),)


def test_postgres_that_was_killed_leaves_no_shared_memory_behind() -> None:
    server = PostgresServer()
    server.start()
    # Its file says which; "key id" is what the kernel calls it.
    key, _ = (server.folder / "postmaster.pid").read_text().splitlines()[6].split()
    server.stop()
    assert key in _shared_memory()
    server.release()
    assert key not in _shared_memory()
    assert not server.folder.exists()


def _shared_memory() -> set[str]:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {line.split()[0] for line in lines}


# pytest shortens the lines of its summary, but on a machine of CI, which it knows by this name.
@pytest.mark.parametrize("machine", [{"CI": ""}, {"CI": "true"}], ids=["a user's", "CI's"])
def test_fixture_that_many_tests_lack_is_explained_once(
    tmp_path: Path, machine: dict[str, str]
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def server(): pytest.fail('no server\\nits log', pytrace=False)\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_it(server, n): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    command += ["-p", "integration.support.said_once", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command,
        env=clean_environment(**machine),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "3 errors" in done.stdout, done.stdout + done.stderr
    reports, _ = done.stdout.split("short test summary info")
    assert reports.count("its log") == 1
    assert reports.count("Failed: no server\nshown whole at test_it.py::test_it[0]\n") == 2
