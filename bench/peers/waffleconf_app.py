"""Flask-WaffleConf 0.3.1 on the stack it needs: the app that is served, and its figures."""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import time
from pathlib import Path

from flask import Flask, request
from flask.config import Config

from bench.reports import pack
from bench.timing import samples_ns

KIND = os.environ.get("BENCH_KIND", "none")
FOLDER = os.environ["BENCH_FOLDER"]


class ReportingConfig(Config):
    """Tells the benchmark when the watcher has applied a number."""

    sender = None

    def update(self, *args, **kwargs):
        super().update(*args, **kwargs)
        number = dict(*args, **kwargs).get("NUMBER")
        if self.sender is not None and number is not None:
            self.sender.send(pack(os.getpid(), number, time.monotonic_ns()))


class BenchFlask(Flask):
    config_class = ReportingConfig


def make_app(*, multiproc=True):
    """Return the app, its store's state and its database."""
    # Imported here, so that the bare app is measured without them.
    import redis
    from flask_sqlalchemy import SQLAlchemy
    from flask_waffleconf import AlchemyWaffleStore, WaffleConf, WaffleMixin

    app = BenchFlask("bench", instance_path=FOLDER)
    port = int(os.environ.get("BENCH_REDIS_PORT", "6379"))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{FOLDER}/settings.db",
        SQLALCHEMY_TRACK_MODIFICATIONS=False,
        WAFFLE_CONFS={"NUMBER": {"desc": "counts the rounds", "default": 0}},
        WAFFLE_MULTIPROC=multiproc,
        WAFFLE_WATCHTYPE="redis" if KIND == "redis" else "file",
        WAFFLE_WATCHER_FILE=f"{FOLDER}/watch.txt",
        WAFFLE_REDIS_PORT=port,
    )
    # It listens where it is told to, and publishes to localhost:6379 whatever it is told.
    redis.client.StrictRedis = functools.partial(redis.Redis, port=port)
    db = SQLAlchemy(app)

    class Conf(db.Model, WaffleMixin):
        id = db.Column(db.Integer, primary_key=True)
        key = db.Column(db.String(255), unique=True)
        value = db.Column(db.Text)

    db.create_all()
    state = WaffleConf(app, AlchemyWaffleStore(db=db, model=Conf)).state
    state.update_conf()
    return app, state, db


def serve():
    """Return the app that uWSGI serves."""
    if KIND == "plain":
        app, state = Flask("bench", instance_path=FOLDER), None
        app.config["NUMBER"] = 0
    else:
        app, state, _ = make_app()

    @app.get("/")
    def read():
        return str(app.config["NUMBER"])

    @app.post("/")
    def write():
        began = time.monotonic_ns()
        state.update_db({"NUMBER": int(request.get_data())})
        return str(began)

    reports = os.environ.get("BENCH_REPORTS")
    if reports and state is not None:
        ReportingConfig.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ReportingConfig.sender.connect(reports)
    return app


def reads(rounds):
    """Return the nanoseconds of a read, by how it is read."""
    app, state, _ = make_app(multiproc=False)
    with app.app_context():
        return {
            "config": samples_ns(lambda: app.config["NUMBER"], rounds=rounds, repeat=2000),
            "parse_conf": samples_ns(lambda: state.parse_conf(["NUMBER"]), rounds=rounds, repeat=5),
        }


def refresh(size, rounds):
    """Return the nanoseconds and the statements of a refresh, which always reads everything."""
    from sqlalchemy import event

    app, state, db = make_app(multiproc=False)
    with app.app_context():
        # By one statement: it would commit 10,000 times by itself.
        row = db.session.execute(db.text("select value from conf")).scalar()
        rows = [{"key": f"SETTING_{number}", "value": row} for number in range(1, size)]
        if rows:
            statement = db.text("insert into conf (key, value) values (:key, :value)")
            db.session.execute(statement, rows)
        db.session.commit()
        for row in rows:
            app.config["WAFFLE_CONFS"][row["key"]] = {"desc": "one of many", "default": 0}
        statements = []

        @event.listens_for(db.engine, "before_cursor_execute")
        def count(connection, cursor, statement, *rest):
            statements.append(statement)

        times = samples_ns(state.update_conf, rounds=rounds)
        return {"ns": times, "queries": len(statements) / rounds}


def main(what, *numbers):
    """Print figures as JSON, or make the database before the workers race for it."""
    numbers = [int(number) for number in numbers]
    if what == "prepare":
        if KIND != "plain":
            make_app(multiproc=False)
            Path(FOLDER, "watch.txt").touch()
        return
    print(json.dumps({"reads": reads, "refresh": refresh}[what](*numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    app = serve()
