"""An app written for Flask-WaffleConf with peewee runs with its import changed."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest
from flask import Flask

from uwsgi_waffle import ConfigurationError, PeeweeWaffleStore, WaffleConf, WaffleMixin

from ..support.quickstart import CONFS, Quickstart, Site, add_views, close_store


class PeeweeSite(Site):
    def __init__(self, folder: Path) -> None:
        self.app = app = Flask(__name__, instance_path=str(folder))
        app.config["WAFFLE_CONFS"] = CONFS

        self.db = db = peewee.SqliteDatabase(str(folder / "app.db"))

        class ConfModel(peewee.Model, WaffleMixin):
            class Meta:
                database = db

            key = peewee.CharField(unique=True)
            value = peewee.TextField()

        self.model = ConfModel
        with db:
            db.create_tables([ConfModel])

        configstore = PeeweeWaffleStore(model=ConfModel)
        self.waffle = WaffleConf(app, configstore)
        add_views(app)

    def rows(self) -> dict[str, str]:
        with self.db:
            return {row.get_key(): row.get_value() for row in self.model.select()}

    def put_row(self, key: str, value: str) -> None:
        with self.db:
            self.model.create(key=key, value=value)

    def close(self) -> None:
        close_store(self.waffle)
        self.db.close()


class TestPeeweeQuickstart(Quickstart):
    site_class = PeeweeSite


def test_a_store_without_any_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a peewee database: give it db, or a model"):
        PeeweeWaffleStore()
