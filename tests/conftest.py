from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from .support import hypothesis_profiles  # noqa: F401
from .support.order import slow_first
from .support.rig import NOBODY, Rig, Worker
from .support.templates import CompiledTemplates


# After pytest's own order, which is by the parameters of fixtures.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that take seconds the minutes that a loaded machine makes of them."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(400))
    slow_first(items)


@pytest.fixture(scope="session", autouse=True)
def _templates_compiled_once() -> None:
    # Each app compiles those of the admin page again otherwise, which takes longer than its tests.
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": CompiledTemplates()}


@pytest.fixture(autouse=True)
def _no_foreign_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WAFFLE_", "FLASK_", "UWSGI_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_thread_leaks() -> Iterator[None]:
    yield
    leaked = [thread for thread in threading.enumerate() if thread.name == "uwsgi_waffle"]
    for thread in leaked:
        thread.join(2.0)
    assert not [thread for thread in leaked if thread.is_alive()], "a watcher outlived its test"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The instance folder that all workers of a test share."""
    folder = tmp_path / "instance"
    folder.mkdir()
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that also :func:`~tests.support.ordinary_user` may enter and owns."""
    folder = Path(tempfile.mkdtemp(prefix="waffle-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def make_worker(folder: Path) -> Iterator[Callable[..., Worker]]:
    """Makes workers that share the test's folder; stops them in the end."""
    workers: list[Worker] = []

    def make(*, where: Path = folder, **options: Any) -> Worker:
        worker = Worker(where, **options)
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def rig(folder: Path) -> Rig:
    return Rig(folder)


@pytest.fixture
def settled(rig: Rig) -> Rig:
    """One that has read, and finds nothing new."""
    rig.begin_request()
    rig.begin_request()
    return rig
