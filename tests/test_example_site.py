"""The example site does what its page says."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import examples.site as site
from uwsgi_waffle import WaffleConf


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("FLASK_WAFFLE_STORE_URL", f"sqlite:///{tmp_path}/waffle.db")
    monkeypatch.setenv("FLASK_WAFFLE_WATCHER_FILE", f"{tmp_path}/waffle.watch")
    monkeypatch.setattr(site, "waffle", WaffleConf())
    return site.create_app()


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    with app.test_client() as client:
        yield client


def test_changed_banner_is_on_every_page(client: FlaskClient) -> None:
    assert client.post("/settings", data={"BANNER": "Back at noon"}).status_code == 302
    assert "Back at noon" in client.get("/").text
    assert "Back at noon" in client.get("/settings").text


def test_banner_is_escaped(client: FlaskClient) -> None:
    client.post("/settings", data={"BANNER": "<script>alert(1)</script>"})
    assert "<script>alert" not in client.get("/").text


def test_upload_limit_is_live(client: FlaskClient) -> None:
    def upload() -> int:
        data = {"file": (BytesIO(b"x" * 50_000), "file.bin")}
        return client.post("/upload", data=data).status_code

    assert upload() == 302
    client.post("/settings", data={"MAX_CONTENT_LENGTH": "2000"})
    assert upload() == 413


def test_maintenance_leaves_only_settings_and_status_open(client: FlaskClient) -> None:
    client.post("/settings", data={"MAINTENANCE": ["false", "true"]})
    assert client.get("/").status_code == 503
    assert client.get("/status").status_code == 200
    client.post("/settings", data={"MAINTENANCE": "false"})
    assert client.get("/").status_code == 200


def test_refused_value_is_shown_at_its_field_and_nothing_is_saved(client: FlaskClient) -> None:
    answer = client.post("/settings", data={"MAX_CONTENT_LENGTH": "5", "BANNER": "typed"})
    assert answer.status_code == 422
    assert "it must be at least 1000" in answer.text
    assert 'value="typed"' in answer.text
    assert client.get("/status").json["status"]["revision"] == 0  # type: ignore[index]  # is JSON


def test_form_of_an_older_revision_is_not_saved(client: FlaskClient) -> None:
    client.post("/settings", data={"BANNER": "first", "revision": "0"})
    client.post("/settings", data={"BANNER": "second", "revision": "0"})
    assert "Someone else changed settings" in client.get("/settings").text
    assert "first" in client.get("/").text


def test_change_that_changes_nothing_is_not_called_saved(client: FlaskClient) -> None:
    for sent in ({}, {"SITENAM": "typo"}, {"BANNER": ""}):
        client.post("/settings", data=sent)
        page = client.get("/settings").text
        assert "Nothing was changed" in page
        assert "Saved." not in page


def test_form_of_another_site_is_refused(client: FlaskClient) -> None:
    headers = {"Origin": "https://elsewhere.example"}
    assert client.post("/settings", data={"BANNER": "x"}, headers=headers).status_code == 403
