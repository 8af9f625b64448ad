"""The hooks that servers other than uWSGI need, or may have."""

from __future__ import annotations

_GUNICORN = """\
# gunicorn needs no hook: the first request of a worker starts its watcher.
# With this one in gunicorn.conf.py it runs before that, so that a worker without
# requests follows changes, also of other hosts, and is listed by
# `flask waffle workers`.


def post_worker_init(worker):
    worker.wsgi.extensions["waffleconf"].start()
"""

_GRANIAN = """\
# granian needs no hook: each worker loads the app itself, and starts its watcher
# with it.
"""

_CELERY = """\
# Celery needs no hook for tasks that run in an app context: each begins with
# current settings. With this one, beside the Celery app, a pool process also
# follows changes between tasks, also of other hosts, and is listed by
# `flask waffle workers`. `waffle` is the WaffleConf of your app.
from celery.signals import worker_process_init


@worker_process_init.connect
def follow_settings(**_):
    waffle.start()
"""

_FLASK = """\
# `flask run` needs no hook: it is one process, which looks for changes at each
# request.
"""

#: name of every server -> its hooks, as Python
HOOKS = {"gunicorn": _GUNICORN, "granian": _GRANIAN, "celery": _CELERY, "flask": _FLASK}
