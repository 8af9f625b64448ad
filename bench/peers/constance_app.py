"""django-constance with one of its backends: the app that is served, and its figures."""

from __future__ import annotations

import json
import os
import sys
import time

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from bench.timing import samples_ns

KIND = os.environ.get("BENCH_KIND", "database")
BACKENDS = {
    "database": "constance.backends.database.DatabaseBackend",
    "redis": "constance.backends.redisd.RedisBackend",
    "cachingredis": "constance.backends.redisd.CachingRedisBackend",
}


def configure(size=1):
    """Set Django up; with the kind "plain" without constance."""
    names = ["NUMBER", *(f"SETTING_{number}" for number in range(1, size))]
    plain = KIND == "plain"
    settings.configure(
        SECRET_KEY="bench",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[],
        INSTALLED_APPS=[] if plain else ["constance"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ["BENCH_FOLDER"] + "/settings.db",
                # Django opens a connection for each request unless it is told to keep it.
                "CONN_MAX_AGE": None,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        CONSTANCE_BACKEND=BACKENDS.get(KIND),
        CONSTANCE_CONFIG=dict.fromkeys(names, (0, "counts the rounds", int)),
        CONSTANCE_REDIS_CONNECTION={"port": int(os.environ.get("BENCH_REDIS_PORT", "6379"))},
        NUMBER=0,
    )
    django.setup()


def answer(request):
    """Answer with the number, or set it."""
    if KIND == "plain":
        return _text(settings.NUMBER)
    from constance import config

    if request.method == "POST":
        began = time.monotonic_ns()
        config.NUMBER = int(request.body)
        return _text(began)
    return _text(config.NUMBER)


def _text(number):
    # Flask gives the length by itself, Django by a middleware that is not wanted here.
    text = str(number)
    return HttpResponse(text, headers={"Content-Length": str(len(text))})


urlpatterns = [path("", answer)]


def prepare():
    """Make the tables and the first value."""
    if KIND == "plain":
        return
    call_command("migrate", verbosity=0)
    from constance import config

    config.NUMBER = 0


def reads(rounds):
    """Return the nanoseconds of a read."""
    prepare()
    from constance import config

    return {"config": samples_ns(lambda: config.NUMBER, rounds=rounds, repeat=20)}


def refresh(size, rounds):
    """Return the nanoseconds and the statements of reading every setting."""
    prepare()
    from constance import config
    from constance.codecs import dumps
    from constance.utils import get_values
    from django.db import connection

    if KIND == "database":
        from constance.models import Constance

        rows = [Constance(key=f"SETTING_{n}", value=dumps(1)) for n in range(1, size)]
        Constance.objects.bulk_create(rows, batch_size=400, ignore_conflicts=True)
    else:
        for number in range(1, size):
            setattr(config, f"SETTING_{number}", 1)
    queries = []

    def count(execute, *arguments):
        queries.append(1)
        return execute(*arguments)

    with connection.execute_wrapper(count):
        times = samples_ns(get_values, rounds=rounds)
    return {"ns": times, "queries": len(queries) / rounds if KIND == "database" else None}


def main(what, *numbers):
    """Print figures as JSON, or make the database before the workers race for it."""
    numbers = [int(number) for number in numbers]
    configure(numbers[0] if what == "refresh" else 1)
    if what == "prepare":
        prepare()
        return
    print(json.dumps({"reads": reads, "refresh": refresh}[what](*numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    configure()
    application = get_wsgi_application()
