"""The files of docs/deployment, run for real: in an empty folder, as another user."""

from __future__ import annotations

import configparser
import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be one package more

from .support.find import folder_of_programs, need_module
from .support.machine import FILES, Machine
from .support.postgres_server import PostgresServer
from .support.processes import Process, free_port

pytestmark = [pytest.mark.uwsgi, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def machine(port: int) -> Iterator[Machine]:
    need_module("pyuwsgi")
    # Not pytest's folder, which others may not enter.
    with tempfile.TemporaryDirectory(prefix="waffle", dir=folder_of_programs()) as name:
        root = Path(name)
        root.chmod(0o755)
        yield Machine(root, {8080: port})


class Unit:
    """A systemd unit: what it starts, and how."""

    def __init__(self, text: str) -> None:
        parser = configparser.RawConfigParser(strict=False, comment_prefixes="#")
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the class documents
        parser.read_string(text)
        self.service = parser["Service"]
        self.folder = Path(self.service["WorkingDirectory"])
        self.command = shlex.split(self.service["ExecStart"])
        pairs = shlex.split(self.service.get("Environment", ""))
        self.env = dict(pair.split("=", 1) for pair in pairs)


class Systemd:
    """The socket on which a service of type notify says that it is ready."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o777)
        self._socket.settimeout(120)

    def wait_until_ready(self) -> None:
        while b"READY=1" not in self._socket.recv(4096):
            pass

    def close(self) -> None:
        self._socket.close()


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def wait_for(server: Process, port: int, path: str = "/readyz") -> dict[str, Any]:
    def probe() -> Any:
        try:
            return json.loads(get(port, path))
        except (urllib.error.URLError, ConnectionError):
            return None

    # Four workers compile every package, for the app may not write where it is installed.
    found: dict[str, Any] = server.eventually("ready", probe, deadline_s=120.0)
    return found


def install(machine: Machine) -> Path:
    """Do what install.sh says, as the user, in a folder that holds only the app."""
    folder = machine.path("/srv/shop")
    machine.give(folder)
    for name in ("app.py", "requirements.txt"):
        machine.write(folder / name, machine.file(name))
    machine.write(machine.path("/install.sh"), machine.file("install.sh"))
    printed = machine.run(["sh", str(machine.path("/install.sh"))], cwd=folder)
    assert "uwsgi.ini: 0 errors, 0 warnings" in printed
    return folder


def kept(folder: Path) -> set[Path]:
    """Return all files but those that Python makes for itself."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def flask(machine: Machine, folder: Path, *arguments: str, **env: str) -> str:
    command = [".venv/bin/flask", "--app", "app", "waffle", *arguments]
    return machine.run(command, cwd=folder, env=env)


def test_virtual_environment_as_a_service_of_systemd(machine: Machine, port: int) -> None:
    folder = install(machine)
    unit = Unit(machine.file("shop.service"))
    assert unit.service["Type"] == "notify"
    assert unit.folder == folder
    writable = [machine.path("/srv/shop/instance")]
    assert unit.service["ReadWritePaths"].split() == [str(path) for path in writable]
    # ReadWritePaths must be there when the service starts.
    machine.give(folder / "instance")
    before = kept(folder)
    with contextlib.closing(Systemd(machine.root)) as systemd:
        env = {**unit.env, "NOTIFY_SOCKET": str(systemd.path)}
        server = machine.start("shop", unit.command, cwd=unit.folder, env=env)
        with server:
            systemd.wait_until_ready()
            wait_for(server, port)
            assert get(port) == "Welcome\n"
            flask(machine, folder, "set", "BANNER=Open on Sunday", "--author", "ann")
            assert get(port) == "Open on Sunday\n"
            printed = flask(machine, folder, "workers", "--wait", "60", "--expect", "4")
            assert printed.count("VALID") == 4
            assert "0 errors" in flask(machine, folder, "doctor")

            reload_command = unit.service["ExecReload"].split()
            assert reload_command[1:] == ["-HUP", "$MAINPID"]
            server.popen.send_signal(signal.SIGHUP)
            # A worker that loads the app when it is told to end ends with an error.
            server.eventually("four more", lambda: server.log.count("(default app)") >= 8)
            wait_for(server, port)
            assert get(port) == "Open on Sunday\n"
            server.popen.send_signal(signal.SIGTERM)
            assert server.wait_for_end() == 0, server.evidence()
    new = {path for path in kept(folder) - before if writable[0] not in path.parents}
    assert new == set()


def test_emperor(machine: Machine, port: int) -> None:
    folder = install(machine)
    unit = Unit(machine.file("emperor.service"))
    page = (FILES.parent / "emperor.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    machine.run(machine.here(script), cwd=folder)
    with contextlib.closing(Systemd(machine.root)) as systemd:
        env = {**unit.env, "NOTIFY_SOCKET": str(systemd.path)}
        with machine.start("emperor", unit.command, cwd=unit.folder, env=env) as server:
            systemd.wait_until_ready()
            wait_for(server, port)
            flask(machine, folder, "set", "BANNER=Hail")
            assert get(port) == "Hail\n"
            # The vassal's master stays, and its four workers don't.
            before = {child.pid for child in server.descendants()}
            machine.path("/srv/shop/vassals/shop.ini").touch()

            def reloaded() -> bool:
                return len({child.pid for child in server.descendants()} - before) == 4

            server.eventually("other workers", reloaded)
            wait_for(server, port)
            assert get(port) == "Hail\n"


def test_package_of_debian(machine: Machine, port: int) -> None:
    need_debians_uwsgi()
    page = (FILES.parent / "debian.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(/usr/bin/python3 -m venv .*?)```", page, re.DOTALL)
    folder = machine.path("/srv/shop")
    machine.give(folder)
    machine.write(folder / "app.py", machine.file("app.py"))
    ours = machine.here(script).replace("/usr/bin/python3", "python3")
    # The folder is the user's already, and only root may give it to another.
    machine.run(ours.replace("--owner www-data --group www-data ", ""), cwd=folder)
    (site,) = folder.glob(".venv/lib/python3.*")
    text = machine.file("debian.ini").replace("python3.11", site.name)
    ini = machine.path("/etc/uwsgi/apps-enabled/shop.ini")
    machine.write(ini, text)
    with machine.start("debian", ["/usr/bin/uwsgi", "--ini", str(ini)], cwd=folder) as server:
        wait_for(server, port)
        flask(machine, folder, "set", "BANNER=Hello from Debian")
        assert get(port) == "Hello from Debian\n"
        printed = flask(machine, folder, "workers", "--wait", "60", "--expect", "4")
        assert printed.count("VALID") == 4


def need_debians_uwsgi() -> None:
    uwsgi = Path("/usr/bin/uwsgi")
    if uwsgi.exists():
        asked = ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"]
        version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        plugin = Path("/usr/lib/uwsgi/plugins/python3_plugin.so").exists()
        if plugin and version == [str(part) for part in sys.version_info[:2]]:
            return
    # Not missing(): Debian's uWSGI has a stage of its own in CI.
    pytest.skip("Debian's uWSGI for this Python is missing")


class Image:
    """A Dockerfile, built in a folder: each step as it stands, without a daemon.

    ``useradd`` is left out, as the user is there; what ``pip`` installs is the test's own.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.root
        self.user = False
        self.command: list[str] = []
        self.check: list[str] = []
        self.volumes: list[Path] = []
        self.base = ""
        text = machine.file("Dockerfile").replace("\\\n", " ")
        for line in text.splitlines():
            instruction, _, rest = line.partition(" ")
            if instruction and not instruction.startswith("#"):
                getattr(self, f"_{instruction.lower()}")(rest)

    def _from(self, rest: str) -> None:
        assert re.fullmatch(r"python:3\.\d+-slim", rest)

    def _workdir(self, rest: str) -> None:
        self.folder = Path(rest)
        self.folder.mkdir(parents=True)

    def _copy(self, rest: str) -> None:
        name, target = rest.split()
        assert target == "."
        self.machine.write(self.folder / name, self.machine.file(name))

    def _run(self, rest: str) -> None:
        if rest.startswith("useradd "):
            return
        user = "nobody" if self.machine.is_another_user else str(Path.home().owner())
        group = "nogroup" if self.machine.is_another_user else str(Path.home().group())
        rest = rest.replace("--owner shop --group shop", f"--owner {user} --group {group}")
        self.machine.run(rest, as_root=not self.user, cwd=self.folder)

    def _volume(self, rest: str) -> None:
        self.volumes.append(Path(rest))

    def _user(self, rest: str) -> None:
        assert rest == "shop"
        self.user = True

    def _expose(self, rest: str) -> None:
        assert rest == "8080"

    def _healthcheck(self, rest: str) -> None:
        self.check = json.loads(rest.removeprefix("CMD "))

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)


def test_container_with_postgresql_and_a_volume(
    machine: Machine, port: int, postgres: PostgresServer
) -> None:
    services = yaml.safe_load(machine.file("compose.yaml"))
    app = services["services"]["app"]
    image = Image(machine)
    assert app["volumes"] == [f"instance:{image.volumes[0]}"]
    assert app["ports"] == [f"8080:{port}"]
    with postgres.database() as database:
        url = app["environment"]["FLASK_WAFFLE_STORE_URL"]
        assert url == "postgresql+psycopg://shop:change-me@db/shop"
        env = {"FLASK_WAFFLE_STORE_URL": postgres.url("postgresql+psycopg", database)}
        # The file of the image belongs to root: the app writes its volume alone.
        before = kept(image.folder)
        with machine.start("first", image.command, cwd=image.folder, env=env) as server:
            wait_for(server, port)
            machine.run(image.check, cwd=image.folder)
            flask(machine, image.folder, "set", "BANNER=Kept", **env)
            assert get(port) == "Kept\n"
            printed = flask(
                machine, image.folder, "workers", "--wait", "60", "--expect", "4", **env
            )
            assert printed.count("VALID") == 4
            server.popen.send_signal(signal.SIGTERM)
            assert server.wait_for_end() == 0, server.evidence()
        new = kept(image.folder) - before
        assert all(image.volumes[0] in path.parents for path in new)
        # A new container has the volume, and the database.
        with machine.start("second", image.command, cwd=image.folder, env=env) as server:
            wait_for(server, port)
            assert get(port) == "Kept\n"
            # What is new in the database of another host comes with the next resync.
            assert "0 errors" in flask(machine, image.folder, "doctor", **env)
