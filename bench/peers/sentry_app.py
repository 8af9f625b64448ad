"""sentry-options, whose files this app writes itself: the app that is served, and its figures."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from flask import Flask, request

from bench.timing import samples_ns

FOLDER = Path(os.environ["BENCH_FOLDER"])
VALUES = FOLDER / "values" / "bench" / "values.json"


def prepare(size=1):
    """Write the schema and the values, as its service would have done."""
    names = ["NUMBER", *(f"SETTING_{number}" for number in range(1, size))]
    schema = {
        "version": "1.0",
        "type": "object",
        "properties": {
            name: {"type": "integer", "default": 0, "description": "counts the rounds"}
            for name in names
        },
    }
    folder = FOLDER / "schemas" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(json.dumps(schema))
    change(dict.fromkeys(names, 0))


def change(values):
    """Replace the values; a reader of the file sees the old ones or the new."""
    VALUES.parent.mkdir(parents=True, exist_ok=True)
    new = VALUES.with_name(f"new-{os.getpid()}.json")
    new.write_text(json.dumps({"options": values}))
    new.replace(VALUES)


def opened():
    """Return what reads the options."""
    # Imported here: where it looks is taken from the environment.
    os.environ["SENTRY_OPTIONS_DIR"] = str(FOLDER)
    import sentry_options

    sentry_options.init()
    return sentry_options.options("bench")


def serve():
    """Return the app that uWSGI serves."""
    app = Flask("bench", instance_path=str(FOLDER))
    options = opened()

    @app.get("/")
    def read():
        return str(options.get("NUMBER"))

    @app.post("/")
    def write():
        began = time.monotonic_ns()
        change({"NUMBER": int(request.get_data())})
        return str(began)

    return app


def reads(rounds):
    """Return the nanoseconds of a read."""
    options = opened()
    return {"config": samples_ns(lambda: options.get("NUMBER"), rounds=rounds, repeat=500)}


def refresh(size, rounds):
    """Return the nanoseconds of reading every setting after one has changed."""
    prepare(size)
    options = opened()
    import sentry_options

    values = {"NUMBER": 0, **{f"SETTING_{number}": 1 for number in range(1, size)}}
    times = []
    for number in range(1, rounds + 1):
        change({**values, "NUMBER": number})
        times += samples_ns(sentry_options.refresh, rounds=1)
        assert options.get("NUMBER") == number
    return {"ns": times, "queries": None}


def main(what, *numbers):
    """Print figures as JSON, or write the files before the workers start."""
    numbers = [int(number) for number in numbers]
    if what == "prepare":
        prepare()
        return
    print(json.dumps({"reads": reads, "refresh": refresh}[what](*numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    app = serve()
