"""The alert rules that the package brings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgi_waffle.__main__ import ALERTS

CASES = Path(__file__).with_name("alerts_test.yml")
TEXT = ALERTS.read_text(encoding="utf-8")
# Of Prometheus; Debian's package `prometheus` has it.
PROMTOOL = shutil.which("promtool")


def test_each_alert_names_what_it_means_and_what_to_do() -> None:
    """What can be seen without promtool."""
    alerts = TEXT.split("- alert: ")[1:]
    assert [alert.split()[0] for alert in alerts] == [
        "WaffleSettingsStale",
        "WaffleWorkersBehind",
        "WaffleInterrupted",
    ]
    for alert in alerts:
        keys = re.findall(r"^ +(\w+):", alert, re.MULTILINE)
        wanted = ["expr", "for", "labels", "severity", "annotations", "summary", "description"]
        assert keys == wanted
        assert alert.split()[0] in CASES.read_text(encoding="utf-8")
    assert "\t" not in TEXT


def test_alerts_ask_for_metrics_that_are_exported() -> None:
    pytest.importorskip("prometheus_client")
    # In a process of its own: the metrics are made when the module is imported.
    code = (
        "from prometheus_client import REGISTRY; import uwsgi_waffle.prometheus as p;"
        "print(*(family.name for family in REGISTRY.collect()));"
        "print(p._count_workers.__doc__ and 'waffle_workers_behind')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    rules = re.sub(r"#.*", "", TEXT)
    asked = set(re.findall(r"\bwaffle_\w+", re.sub("name: uwsgi_waffle", "", rules)))
    assert len(asked) == 4
    assert asked <= set(done.stdout.split())


def test_alerts_go_off_when_they_should(tmp_path: Path) -> None:
    """By Prometheus's own tool where it is; without it the two tests above must do."""
    if PROMTOOL is None:
        return
    for path in (ALERTS, CASES):
        shutil.copy(path, tmp_path)
    for command in (["check", "rules", ALERTS.name], ["test", "rules", CASES.name]):
        done = subprocess.run(
            [PROMTOOL, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
