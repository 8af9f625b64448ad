"""One process of a server speaks for all that would say the same."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from uwsgi_waffle.process.claims import Claims
from uwsgi_waffle.process.health import Health
from uwsgi_waffle.testing.forked import children, in_processes

from ..support.descriptors import open_descriptors
from ..support.rig import wait_until


def test_one_of_many_processes_has_the_claim(tmp_path: Path) -> None:
    path = tmp_path / "said"
    # They are siblings of each other, not of this process, whose claims are another server's.
    assert Claims(path).take("shared")

    def take(number: int) -> tuple[bool, bool]:
        claims = Claims(path)
        answers = claims.take("shared"), claims.take(f"own {number}")
        (tmp_path / f"taken{number}").touch()
        wait_until(lambda: len(list(tmp_path.glob("taken?"))) == 4)
        return answers

    answers = in_processes(4, take)
    assert [own for _, own in answers] == [True] * 4
    assert sum(shared for shared, _ in answers) == 1


def test_claim_is_kept_dropped_and_taken_again(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "said")
    assert not claims.drop("x")
    assert claims.take("x")
    assert claims.take("x")
    assert claims.drop("x")
    assert not claims.drop("x")
    assert claims.take("x")


def test_claim_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "said"

    def hold(number: int) -> None:
        claims = Claims(path)
        while not claims.take("x"):
            time.sleep(0.005)
        (tmp_path / f"taken{number}").touch()
        signal.pause()

    with children(2, hold) as found:
        wait_until(lambda: any(tmp_path.glob("taken?")), "a claim")
        (first,) = [n for n in range(2) if (tmp_path / f"taken{n}").exists()]
        os.kill(found[first][0], signal.SIGKILL)
        wait_until(lambda: (tmp_path / f"taken{1 - first}").exists(), "the other's claim")


def test_file_is_private_to_its_group_and_empty(tmp_path: Path) -> None:
    path = tmp_path / "said"
    Claims(path).take("x")
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) & 0o007 == 0
    assert status.st_size == 0


@pytest.mark.parametrize("kind", ["a folder", "no folder", "a link"])
def test_file_that_can_not_be_used_leaves_every_process_its_claims(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "said"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = tmp_path / "nowhere" / "said"
    claims = Claims(path)
    assert claims.take("x")
    assert claims.take("x")
    assert claims.drop("x")
    assert not (tmp_path / "elsewhere").exists()


def test_fault_of_all_workers_is_logged_by_one_and_its_end_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process goes step by step, together with the others."""

    def worker(number: int) -> list[str]:
        health = Health(claims=Claims(tmp_path / "said"))
        own = len(caplog.messages)

        def meet(name: str) -> None:
            (tmp_path / f"{name}{number}").touch()
            wait_until(lambda: len(list(tmp_path.glob(f"{name}?"))) == 4, name)

        health.failed("store", "down")
        meet("failed")
        health.failed("store", "down")
        meet("again")
        health.works("store")
        meet("works")
        health.failed("store", f"only mine: {number}")
        health.works("store")
        return caplog.messages[own:]

    lines = [line for each in in_processes(4, worker) for line in each]
    assert lines.count("store fails: down") == 1
    assert sum("only mine" in line for line in lines) == 4
    assert sum(line.startswith("store works again") for line in lines) == 5


def test_fault_that_is_over_gives_its_claim_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "said")
    health = Health(claims=claims)
    health.failed("store", "down")
    health.works("store")
    assert not claims.drop("store: down")


def test_worker_that_still_fails_says_so_when_the_one_that_spoke_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def worker(number: int) -> list[str]:
        health = Health(claims=Claims(tmp_path / "said"))
        own = len(caplog.messages)
        if number == 0:
            health.failed("store", "down")
            (tmp_path / "spoke").touch()
            wait_until((tmp_path / "heard").exists)
            health.works("store")
            (tmp_path / "well").touch()
        else:
            wait_until((tmp_path / "spoke").exists)
            health.failed("store", "down")
            (tmp_path / "heard").touch()
            wait_until((tmp_path / "well").exists)
            health.failed("store", "down")
            health.works("store")
        return caplog.messages[own:]

    first, second = in_processes(2, worker)
    assert [line.partition(" after")[0] for line in first] == [
        "store fails: down",
        "store works again",
    ]
    assert [line.partition(" after")[0] for line in second] == [
        "store fails: down",
        "store works again",
    ]


def test_claims_of_a_parent_are_none_of_its_childrens(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "said")
    assert claims.take("x")

    def take(number: int) -> bool:
        taken = claims.take("x")
        (tmp_path / f"taken{number}").touch()
        wait_until(lambda: len(list(tmp_path.glob("taken?"))) == 2)
        return taken

    # They are workers of another server than their parent, and one speaks for both.
    assert sorted(in_processes(2, take)) == [False, True]
    assert claims.drop("x")


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_claims_hold_after_their_file_was(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "said"

    def work(number: int) -> list[bool]:
        claims = Claims(path)
        if number == 0:
            taken = [claims.take("x")]
            path.unlink()
            if replaced:
                path.touch()
            taken.append(claims.take("y"))
            (tmp_path / "taken").touch()
            wait_until((tmp_path / "asked").exists)
        else:
            wait_until((tmp_path / "taken").exists)
            taken = [claims.take("x"), claims.take("y")]
            (tmp_path / "asked").touch()
        return taken

    assert in_processes(2, work) == [[True, True], [False, False]]


def test_claims_that_are_dropped_leave_no_descriptor_open(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "said")
    assert claims.take("x")
    assert len(open_descriptors(tmp_path / "said")) == 1
    del claims
    assert open_descriptors(tmp_path / "said") == set()


def test_error_that_becomes_another_gives_its_claim_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "said")
    health = Health(claims=claims)
    health.failed("store", "down")
    health.failed("store", "locked")
    assert not claims.drop("store: down")
    assert claims.drop("store: locked")


def test_claim_that_was_given_back_is_free_while_its_process_lives_on(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        claims = Claims(tmp_path / "said")
        if number == 0:
            taken = claims.take("x") and claims.drop("x")
            (tmp_path / "dropped").touch()
            wait_until((tmp_path / "asked").exists)
        else:
            wait_until((tmp_path / "dropped").exists)
            taken = claims.take("x")
            (tmp_path / "asked").touch()
        return taken

    assert in_processes(2, work) == [True, True]
