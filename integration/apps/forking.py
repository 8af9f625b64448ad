"""A small pre-forking server: loads the app, then forks, and gives each child a port.

Stands for every server that forks after the app was loaded and tells nobody.
"""

from __future__ import annotations

import os
import sys
import time

from werkzeug.serving import make_server

from integration.apps.serve import app

for port in sys.argv[1:]:
    if os.fork() == 0:
        server = make_server("127.0.0.1", int(port), app)
        print(f"serving on {port}", flush=True)
        server.serve_forever()

while True:
    time.sleep(60)
