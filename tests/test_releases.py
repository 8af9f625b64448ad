"""A folder that the next deploy replaces is told from one that stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from uwsgi_waffle import WaffleConf, WaffleWarning, doctor
from uwsgi_waffle.preflight import release_of


@pytest.mark.parametrize(
    "path",
    [
        "releases/20261125101500/instance",
        "releases/42/shop/instance",
        "shop-releases/2026-11-25_10-15-00/instance",
        "20261125/instance",
        "builds/20261125T101500Z/app/instance",
    ],
)
def test_folder_of_a_release_is_found(tmp_path: Path, path: str) -> None:
    folder = tmp_path / path
    folder.mkdir(parents=True)
    release = release_of(folder)
    assert release is not None
    assert release in folder.resolve().parents


@pytest.mark.parametrize("path", ["instance", "shop/2026/instance", "releases", "var/12345678/x"])
def test_folder_that_stays_is_none_of_a_release(tmp_path: Path, path: str) -> None:
    folder = tmp_path / path
    folder.mkdir(parents=True)
    assert release_of(folder) is None


@pytest.mark.parametrize("link", ["shop/current", "current"])
def test_folder_that_current_leads_to_is_a_release(tmp_path: Path, link: str) -> None:
    release = tmp_path / "shop" / "build-7"
    (release / "instance").mkdir(parents=True)
    (tmp_path / "shop" / "shared").mkdir()
    current = tmp_path / link
    current.symlink_to(release)
    assert release_of(release / "instance") == release.resolve()
    # As the app is started by the link.
    assert release_of(current / "instance") == release.resolve()
    assert release_of(tmp_path / "shop" / "shared") is None
    # A folder that all releases link to.
    (release / "linked").symlink_to(tmp_path / "shop" / "shared")
    assert release_of(release / "linked") is None


def _app(folder: Path, **config: object) -> Flask:
    folder.mkdir(parents=True, exist_ok=True)
    app = Flask("shop", instance_path=str(folder))
    app.config.update(WAFFLE_CONFS={"A": {"desc": "A", "default": 1}}, **config)
    return app


def test_settings_in_a_release_are_a_warning_and_a_finding(tmp_path: Path) -> None:
    app = _app(tmp_path / "releases" / "20261125" / "instance")
    with pytest.warns(WaffleWarning, match="one release among many"):
        waffle = WaffleConf(app)
    waffle.update({"A": 2})
    found = doctor.examine(app.extensions["waffleconf"]).findings
    assert [finding.id for finding in found] == ["D027"]
    assert "waffle.db" in found[0].detail
    assert "waffle.watch" in found[0].detail
    app.extensions["waffleconf"].store.close()


def test_settings_outside_of_the_release_are_none(tmp_path: Path) -> None:
    stays = tmp_path / "var"
    stays.mkdir()
    app = _app(
        tmp_path / "releases" / "20261125" / "instance",
        WAFFLE_STORE_URL=f"sqlite:///{stays}/waffle.db",
        WAFFLE_WATCHER_FILE=f"{stays}/waffle.watch",
    )
    waffle = WaffleConf(app)
    waffle.update({"A": 2})
    assert doctor.examine(app.extensions["waffleconf"]).findings == ()
    app.extensions["waffleconf"].store.close()
