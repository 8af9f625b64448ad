"""The arrows between the rooms of the package, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uwsgi_waffle

PACKAGE = Path(uwsgi_waffle.__file__).parent
#: the layers, the lowest first: a room may import its own layer's and lower ones, never higher ones
LAYERS: tuple[set[str], ...] = (
    {"errors", "version", "backoff", "forking", "masking", "ownership", "runtime"},
    {"config", "settings", "ini"},
    {"snapshot", "redis_servers"},
    {"signals"},
    {"stores", "notifiers"},
    {"process"},
    {"reporting", "preflight"},
    {"app_state"},
    {"operations", "prometheus", "checks"},
    {"legacy", "doctor"},
    {"admin", "cli", "testing"},
    {"extension"},
    {"", "__main__"},
)
# What single modules may use, where that is less than what their layer may.
ARROWS = {
    "errors": set[str](),
    "backoff": set[str](),
    "forking": set[str](),
    "masking": set[str](),
    "ownership": set[str](),
    "runtime": set[str](),
    "config": {"errors", "masking"},
    "settings": {"errors", "masking", "settings"},
    "snapshot": {"errors", "settings", "masking"},
    "redis_servers": {"errors", "forking", "masking", "redis_servers"},
    "notifiers": {
        *("errors", "backoff", "forking", "masking", "ownership", "snapshot", "redis_servers"),
        "notifiers",
    },
    "stores": {
        *("errors", "backoff", "forking", "masking", "ownership", "snapshot", "redis_servers"),
        "stores",
    },
    "process": {
        *("errors", "backoff", "forking", "runtime", "masking", "ownership", "settings"),
        *("snapshot", "process"),
        *("stores.base", "stores.epochs"),
        *("notifiers.base", "notifiers.file", "notifiers.publisher"),
    },
}
# Third-party modules, or those of a server, and who alone may import them.
IMPORTERS = {
    "flask": {
        "extension",
        "app_state",
        "signals",
        "cli",
        "admin",
        "testing.fixture",
        "reporting.health_views",
    },
    "uwsgi": {"runtime"},
    "uwsgidecorators": {"runtime"},
    "blinker": {"signals"},
    "redis": {
        *("notifiers.redis", "stores.redis"),
        *("redis_servers.clients", "redis_servers.failures", "redis_servers.masters"),
    },
    # legacy reads what the ancestor of this package left, in whatever it kept it.
    "sqlite3": {"stores.sqlite", "doctor", "legacy"},
    "sqlalchemy": {"stores.sqlalchemy", "legacy"},
    "flask_sqlalchemy": {"stores.sqlalchemy"},
    "peewee": {"stores.peewee", "legacy"},
    "click": {"cli", "__main__"},
    "prometheus_client": {"prometheus"},
    "gevent": set(),
    "pickle": {"legacy"},
    "marshal": set(),
    "shelve": set(),
}
#: what no worker imports unless the app asks for it
NOT_IN_A_WORKER = ("cli", "admin", "doctor", "checks", "legacy", "testing", "operations")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@functools.cache
def imported(name: str, *, lazily: bool = True) -> frozenset[str]:
    """Return every module that a module imports; those of the package begin with a dot."""
    return frozenset(_imported(name, lazily))


def _imported(name: str, lazily: bool) -> Iterator[str]:
    path = MODULES[name]
    tree = ast.parse(path.read_text(), str(path))
    parts = name.split(".") if name else []
    package = parts if path.name == "__init__.py" else parts[:-1]
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            yield from (_own(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                root = package[: len(package) - node.level + 1]
                base = "." + ".".join([*root, *base.split(".")]).strip(".")
            base = _own(base)
            for alias in node.names:
                deeper = f"{base}.{alias.name}" if base != "." else f".{alias.name}"
                yield deeper if deeper[1:] in MODULES and base.startswith(".") else base


def _own(name: str) -> str:
    return name[len("uwsgi_waffle") :] or "." if name.split(".")[0] == "uwsgi_waffle" else name


def within(name: str, parts: set[str]) -> bool:
    return any(name == part or (part and name.startswith(f"{part}.")) for part in parts)


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, set(ARROWS))])
def test_module_imports_only_what_its_arrows_allow(name: str) -> None:
    (allowed,) = [ARROWS[part] for part in ARROWS if within(name, {part})]
    own = {target[1:] for target in imported(name) if target.startswith(".")}
    assert {target for target in own if not within(target, allowed)} == set()


@pytest.mark.parametrize("module", IMPORTERS)
def test_module_of_others_is_imported_where_it_belongs_only(module: str) -> None:
    importers = {
        name
        for name in MODULES
        if any(target == module or target.startswith(f"{module}.") for target in imported(name))
    }
    assert {name for name in importers if not within(name, IMPORTERS[module])} == set()


def layer(name: str) -> int:
    """Return how high a module stands."""
    room = name.split(".")[0]
    (height,) = [height for height, rooms in enumerate(LAYERS) if room in rooms]
    return height


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_upward(name: str) -> None:
    targets = {target[1:] for target in imported(name) if target.startswith(".")}
    assert {target for target in targets if layer(target) > layer(name)} == set()


@pytest.mark.parametrize("name", MODULES)
def test_rooms_of_one_layer_do_not_know_each_other(name: str) -> None:
    room = name.split(".")[0]
    targets = {target[1:].split(".")[0] for target in imported(name) if target.startswith(".")}
    assert {target for target in targets if layer(target) == layer(name)} <= {room}


def test_no_module_is_named_uwsgi() -> None:
    assert [name for name in MODULES if name.split(".")[-1] == "uwsgi"] == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        for target in set(imported(name, lazily=False)):
            below = target[1:]
            # A package's parts name the package itself, whose body runs before theirs.
            if target.startswith(".") and below in MODULES and not within(name, {below}):
                visit(below, (*path, name))
        done.add(name)

    for name in MODULES:
        if name:
            visit(name, ())


def test_every_module_that_the_arrows_name_is_there() -> None:
    assert set(ARROWS) <= set(MODULES)


def test_worker_imports_nothing_of_the_tools(tmp_path: Path) -> None:
    # In lazy-apps mode every worker pays for every import.
    code = (
        "import sys\n"
        "from flask import Flask\n"
        "from uwsgi_waffle import WaffleConf\n"
        f"app = Flask('app', instance_path={str(tmp_path)!r})\n"
        "app.config['WAFFLE_CONFS'] = {'LIMIT': {'desc': 'Limit', 'default': 1}}\n"
        "waffle = WaffleConf(app)\n"
        "app.add_url_rule('/', view_func=lambda: str(waffle.conf['LIMIT']))\n"
        "assert app.test_client().get('/').text == '1'\n"
        "waffle.update({'LIMIT': 2}); waffle.status(); waffle.workers()\n"
        "print(*sys.modules)\n"
    )
    loaded = _printed(code)
    rooms = {name.split(".")[1] for name in loaded if name.startswith("uwsgi_waffle.")}
    assert rooms & set(NOT_IN_A_WORKER) == set()
    assert loaded & {"redis", "sqlalchemy", "peewee", "pytest"} == set()
    # Needed by an app that declares by a class, or that brings its own model.
    assert loaded & {"uwsgi_waffle.settings.classes", "uwsgi_waffle.stores.mixin"} == set()


def test_import_of_the_package_brings_no_driver() -> None:
    loaded = _printed("import sys, uwsgi_waffle; print(*sys.modules)")
    assert loaded & {"redis", "sqlalchemy", "peewee", "sqlite3", "click.testing", "pytest"} == set()


def test_root_of_the_package_has_no_more_files_than_its_layout_allows() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 16


def _printed(code: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(answer.stdout.split())
