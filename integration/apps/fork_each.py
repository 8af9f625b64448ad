"""Serves every request in a process of its own, which is forked for it."""

from __future__ import annotations

import sys

from werkzeug.serving import make_server

from integration.apps.serve import app

server = make_server("127.0.0.1", int(sys.argv[1]), app, processes=4)
print(f"serving on {sys.argv[1]}", flush=True)
server.serve_forever()
