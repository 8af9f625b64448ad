"""The arrows between the modules, as DESIGN.md's Layout draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uwsgi_waffle

PACKAGE = Path(uwsgi_waffle.__file__).parent
# What whole parts of the package may use: names of their own or of other modules.
LEAVES = {"errors", "backoff", "forking", "redaction", "processes"}
ARROWS = {
    "errors": set(),
    "backoff": set(),
    "forking": set(),
    "redaction": set(),
    "health": {"errors"},
    "signals": set(),
    "runtime": set(),
    "options": {"errors"},
    "settings": {"errors", "classes"},
    "classes": {"errors"},
    "snapshot": {"errors", "settings"},
    "lease": {"snapshot"},
    "gate": {"lease"},
    "notifiers": {*LEAVES, "snapshot", "notifiers"},
    "stores": {*LEAVES, "snapshot", "stores"},
    "manager": {
        *("errors", "backoff", "health", "lease", "settings", "snapshot"),
        *("announcing", "stores.base", "notifiers.base", "notifiers.file"),
    },
    "watcher": {"errors", "backoff", "health", "manager", "notifiers.base"},
    "roster": {"backoff", "manager", "redaction", "stores.base"},
    "metrics": {"manager", "runtime"},
    "lastgood": {"backoff", "health", "manager", "settings", "snapshot"},
}
# Third-party modules, or those of a server, and who alone may import them.
IMPORTERS = {
    "flask": {"extension", "state", "cli", "admin", "overriding"},
    "uwsgi": {"runtime"},
    "uwsgidecorators": {"runtime"},
    "blinker": {"signals"},
    "redis": {"notifiers.redis", "stores.redis"},
    # legacy reads what the ancestor of this package left, in whatever it kept it.
    "sqlite3": {"stores.sqlite", "doctor", "legacy"},
    "sqlalchemy": {"stores", "legacy"},
    "flask_sqlalchemy": {"stores"},
    "peewee": {"stores", "legacy"},
    "click": {"cli"},
    "prometheus_client": {"prometheus"},
    "gevent": set(),
    "pickle": {"legacy"},
    "marshal": set(),
    "shelve": set(),
}
# Only these know that there is an app with an extension.
ABOVE_STATE = {"", "extension", "cli", "admin", "doctor", "overriding", "operations", "prometheus"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(name: str, *, lazily: bool = True) -> Iterator[str]:
    """Every module that a module imports; those of the package begin with a dot."""
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


@pytest.mark.parametrize("upper", [".extension", ".state"])
def test_nothing_below_knows_the_extension(upper: str) -> None:
    importers = {name for name in MODULES if upper in imported(name)}
    assert {name for name in importers if name and not within(name, ABOVE_STATE)} == set()


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


def test_import_of_the_package_brings_no_driver() -> None:
    # In lazy-apps mode every worker pays for every import.
    code = (
        "import sys, uwsgi_waffle\n"
        "print(*sorted({'redis', 'sqlalchemy', 'peewee', 'sqlite3', 'click.testing', 'pytest',"
        " 'uwsgi_waffle.admin', 'uwsgi_waffle.cli', 'uwsgi_waffle.checks'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == []
