"""An app written for Flask-WaffleConf with SQLAlchemy runs with its import changed."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from uwsgi_waffle import AlchemyWaffleStore, WaffleConf, WaffleMixin

from ..support.quickstart import CONFS, Quickstart, Site, add_views, close_store


class AlchemySite(Site):
    def __init__(self, folder: Path) -> None:
        self.app = app = Flask(__name__, instance_path=str(folder))
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/app.db"
        app.config["WAFFLE_CONFS"] = CONFS

        self.db = db = SQLAlchemy(app)

        class ConfModel(db.Model, WaffleMixin):  # type: ignore[name-defined, misc]
            __tablename__ = "confs"

            id = db.Column(db.Integer, primary_key=True)
            key = db.Column(db.String(255), unique=True)
            value = db.Column(db.Text)

        self.model = ConfModel
        with app.app_context():
            db.create_all()

        configstore = AlchemyWaffleStore(db=db, model=ConfModel)
        self.waffle = WaffleConf(app, configstore)
        add_views(app)

    def rows(self) -> dict[str, str]:
        with self.app.app_context():
            return {row.get_key(): row.get_value() for row in self.model.query.all()}

    def put_row(self, key: str, value: str) -> None:
        with self.app.app_context():
            self.db.session.add(self.model(key=key, value=value))
            self.db.session.commit()

    def close(self) -> None:
        close_store(self.waffle)
        with self.app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()


class TestAlchemyQuickstart(Quickstart):
    site_class = AlchemySite
