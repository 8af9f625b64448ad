"""The API reference has every public name."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator

import pytest

import uwsgi_waffle
from uwsgi_waffle import WaffleError

from ..support.pages import DOCS, blocks, pages

MODULES = (
    "uwsgi_waffle",
    "uwsgi_waffle.stores",
    "uwsgi_waffle.notifiers",
    "uwsgi_waffle.testing",
    "uwsgi_waffle.errors",
    "uwsgi_waffle.admin",
)
_IMPORT = re.compile(r"^from (uwsgi_waffle[\w.]*) import ([\w, ]+)$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(\w+):: ([\w.]+)", re.MULTILINE)


def public() -> Iterator[tuple[str, str]]:
    """Yield module and name of all that is public."""
    for module in MODULES:
        loaded = importlib.import_module(module)
        names = getattr(loaded, "__all__", None) or [
            name for name in dir(loaded) if getattr(loaded, name, None).__class__ is type
        ]
        for name in names:
            yield module, name
    for name in uwsgi_waffle._LAZY:
        yield "uwsgi_waffle", name
    yield "uwsgi_waffle.testing", "waffle_override"
    yield "uwsgi_waffle.testing", "Override"


def imported() -> Iterator[tuple[str, str]]:
    """Yield module and name of all that a page of the documentation imports."""
    for page in pages():
        for block in blocks(page):
            for module, names in _IMPORT.findall(block.code if block.language == "python" else ""):
                yield from ((module, name.split()[0]) for name in names.split(","))


def resolve(path: str) -> object:
    """Return what a dotted path names."""
    module, name = path, ""
    while True:
        try:
            found: object = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            name = f"{last}.{name}".rstrip(".")
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
    return found


def documented() -> list[object]:
    """Return everything that the reference has an entry for."""
    found: list[object] = []
    for page in (DOCS / "api").glob("*.md"):
        for kind, path in _DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if kind == "module":
                module = importlib.import_module(path)
                found += [
                    thing
                    for thing in vars(module).values()
                    if getattr(thing, "__module__", None) == path
                ]
            else:
                found.append(resolve(path))
    return found


@pytest.fixture(scope="module")
def entries() -> list[object]:
    return documented()


@pytest.mark.parametrize(("module", "name"), sorted({*public(), *imported()}))
def test_public_name_is_in_the_reference(module: str, name: str, entries: list[object]) -> None:
    thing = getattr(importlib.import_module(module), name)
    assert any(thing is entry for entry in entries), f"{module}.{name} has no entry in docs/api/"


def test_public_names_of_the_errors_are_all_errors_and_the_warning() -> None:
    names = {name for module, name in public() if module == "uwsgi_waffle.errors"}
    assert {WaffleError.__name__, "WaffleWarning", "OutcomeUnknown"} <= names


@pytest.mark.parametrize(("module", "name"), sorted(set(public())))
def test_public_name_says_what_it_is(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    assert (thing.__doc__ or "").strip(), f"{module}.{name} has no docstring"


@pytest.mark.parametrize(("module", "name"), sorted(set(public())))
def test_method_of_a_public_class_says_what_it_does(module: str, name: str) -> None:
    """One without a docstring would be left out of the reference without a word."""
    thing = getattr(importlib.import_module(module), name)
    methods = (types.FunctionType, classmethod, staticmethod, property)
    silent = [
        method
        for method, value in (vars(thing).items() if isinstance(thing, type) else ())
        if isinstance(value, methods)
        and not method.startswith(("_", "test_"))
        and not inspect.getdoc(getattr(thing, method))
    ]
    assert silent == []
