#!/bin/sh
# Run as the user of the app, in its folder, which holds app.py and requirements.txt.
set -eu
python3 -m venv .venv
.venv/bin/pip install --requirement requirements.txt
.venv/bin/python -m uwsgi_waffle init app:app --http-socket 127.0.0.1:8080 --processes 4
