"""The meaning of uWSGI's options, as far as a check needs to know."""

from __future__ import annotations

#: Boolean options that the package's promises rest on.
PROMISED = frozenset(
    {
        "die-on-term",
        "enable-threads",
        "gevent-early-monkey-patch",
        "lazy-apps",
        "master",
        "need-app",
        "single-interpreter",
    }
)

#: Options of which the last occurrence wins and which a rule looks at.
LAST_WINS = PROMISED | {
    "binary-path",
    "gevent",
    "gevent-monkey-patch",
    "lazy",
    "processes",
    "py-call-osafterfork",
    "threads",
    "workers",
}

#: Options which load the one default app.
DEFAULT_APP = frozenset({"module", "wsgi", "wsgi-file", "file", "paste", "ini-paste", "eval"})

#: Options which mount one more app at a path.
MOUNTS = frozenset({"mount", "worker-mount"})

#: Names known without asking uWSGI, which lists a plugin's options only once it is loaded.
KNOWN = (
    LAST_WINS
    | DEFAULT_APP
    | MOUNTS
    | {
        "async",
        "asyncio",
        "attach-daemon",
        "buffer-size",
        "callable",
        "chmod-socket",
        "chdir",
        "cheaper-initial",
        "emperor",
        "emperor-wrapper",
        "greenlet",
        "harakiri",
        "home",
        "http-socket",
        "manage-script-name",
        "max-requests",
        "max-worker-lifetime",
        "py-autoreload",
        "py-call-uwsgi-fork-hooks",
        "py-tracebacker",
        "reload-mercy",
        "reload-on-rss",
        "shared-import",
        "stats-server",
        "thunder-lock",
        "tornado",
        "touch-chain-reload",
        "touch-reload",
        "touch-workers-reload",
        "ugreen",
        "virtualenv",
        "worker-reload-mercy",
    }
)

# Source: the flags UWSGI_OPT_MASTER, UWSGI_OPT_LOG_MASTER and UWSGI_OPT_REQ_LOG_MASTER
# in uWSGI 2.0.31, core/uwsgi.c and plugins/python.
_IMPLY_MASTER = """
    alarm alarm-backlog alarm-fd alarm-listen-queue alarm-log alarm-lq alarm-metric
    alarm-segfault attach-control-daemon attach-daemon attach-daemon2 backlog-alarm
    brutal-reload-on-fd cache-store cache-udp-node cache-udp-server carbon cheap cheaper
    cheaper-algo cheaper-initial cheaper-overload cheaper-rss-limit-hard
    cheaper-rss-limit-soft cheaper-step check-interval check-mount check-mountpoint cron cron2
    daemons-honour-stdin enable-metrics evil-reload-on-as evil-reload-on-rss exception-handler
    farm forkbomb-delay fs-brutal-reload fs-reload fs-signal idle legion listen-queue-alarm
    log-alarm log-drain log-encoder log-filter log-master log-maxsize log-req-encoder
    log-req-route log-route log-socket log-syslog logger logger-req lq-alarm master-fifo metric
    metric-alarm metric-dir metric-dir-restore metric-threshold metrics-dir metrics-dir-restore
    metrics-no-cores mount-check mountpoint-check mule mule-msg-size mules multicast
    not-alarm-log not-log-alarm notify-socket py-auto-reload py-auto-reload-ignore py-autoreload
    py-tracebacker python-auto-reload python-autoreload queue-store rbtimer reload-on-fd
    req-logger segfault-alarm signal-rbtimer signal-timer smart-attach-daemon
    smart-attach-daemon2 spooler spooler-external st static-cache-paths static-cache-paths-name
    stats stats-http stats-min stats-minified stats-no-cores stats-no-metrics stats-push
    stats-pusher-default-freq stats-pushers-default-freq stats-server subscribe subscribe-to
    subscribe2 threaded-logger timer touch-chain-reload touch-exec touch-logreopen
    touch-logrotate touch-mules-reload touch-reload touch-signal touch-spoolers-reload
    touch-workers-reload udp unique-cron zerg-server
"""
#: Options which switch the master on by themselves.
IMPLY_MASTER = frozenset(_IMPLY_MASTER.split())

# Source: the flag UWSGI_OPT_THREADS in uWSGI 2.0.31.
_IMPLY_THREADS = """
    asyncio gevent py-auto-reload py-auto-reload-ignore py-autoreload py-tracebacker
    python-auto-reload python-autoreload thread-stack-size thread-stacksize threads
    threads-stack-size threads-stacksize tornado
"""
#: Options which switch threads on by themselves.
IMPLY_THREADS = frozenset(_IMPLY_THREADS.split())


def is_true(value: str) -> bool:
    """Return how uWSGI reads a boolean; nothing at all means true.

    Source: uwsgi_opt_true in uWSGI 2.0.31, core/uwsgi.c.
    """
    return value.lower() not in {"false", "off", "no"} and value != "0"
