"""The app of the pages about deployment."""

from __future__ import annotations

from flask import Flask

from uwsgi_waffle import WaffleConf

app = Flask(__name__)
# Each FLASK_WAFFLE_… of the environment, such as FLASK_WAFFLE_STORE_URL.
app.config.from_prefixed_env()
app.config["WAFFLE_CONFS"] = {
    "BANNER": {"desc": "Shown on top of each page", "default": "Welcome"},
    "MAX_FILESIZE": {"desc": "Largest upload, in KiB", "default": 1000, "min": 1},
}
waffle = WaffleConf(app)
app.register_blueprint(waffle.health_blueprint())


@app.get("/")
def index() -> str:
    return f"{app.config['BANNER']}\n"
