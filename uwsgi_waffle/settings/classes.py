"""Settings declared as a class, for checkers and editors that read types."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from ..errors import ConfigurationError
from ..masking import MASK


@dataclass(frozen=True)
class Setting:
    """The part of a declaration that a type and a default alone can't express.

    Stands in ``Annotated[int, Setting("Largest upload, in bytes", min=1)]``; the fields mean
    what the keys of a declaration in ``WAFFLE_CONFS`` mean.
    """

    desc: str
    min: Any = None
    max: Any = None
    choices: Collection[Any] | None = None
    validate: Callable[[Any], object] | None = None
    secret: bool = False
    group: str | None = None
    label: str | None = None
    role: str | None = None
    pinned: bool = False


def declarations_of(cls: type) -> dict[str, dict[str, Any]]:
    """Return what ``WAFFLE_CONFS`` would hold for a class of settings.

    From then on the ``repr`` of its instances masks secrets, unless the class has its own.

    :param cls: a frozen ``msgspec.Struct`` whose fields are the settings; each has a default and
        the annotation ``Annotated[type, Setting("…")]``.
    :raises ConfigurationError: it is another kind of class, or a field lacks something.
    """
    if not issubclass(cls, msgspec.Struct) or not cls.__struct_config__.frozen:
        raise ConfigurationError(
            f"{cls.__name__} must be a frozen struct: class {cls.__name__}(msgspec.Struct, "
            "frozen=True)"
        )
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as exc:
        raise ConfigurationError(
            f"{cls.__name__} has an annotation that can't be resolved ({exc}): import its names "
            "outside of TYPE_CHECKING"
        ) from exc
    declared = {
        info.name: _declaration(f"{cls.__name__}.{info.name}", hints[info.name], info)
        for info in msgspec.structs.fields(cls)
    }
    if any(declaration["secret"] for declaration in declared.values()):
        _mask_repr(cls)
    return declared


def _mask_repr(cls: type) -> None:
    for name, masking in (("__repr__", _repr), ("__rich_repr__", _parts)):
        if getattr(cls, name, None) is getattr(msgspec.Struct, name, None):
            setattr(cls, name, masking)


def _repr(settings: msgspec.Struct) -> str:
    parts = ", ".join(f"{name}={shown!r}" for name, shown in _parts(settings))
    return f"{type(settings).__name__}({parts})"


def _parts(settings: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    # Of its own class: one that is derived may have other secrets.
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for name in settings.__struct_fields__:
        marks = getattr(hints[name], "__metadata__", ())
        secret = any(isinstance(mark, Setting) and mark.secret for mark in marks)
        yield name, MASK if secret else getattr(settings, name)


def _declaration(where: str, hint: Any, info: msgspec.structs.FieldInfo) -> dict[str, Any]:
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Setting)]
    if len(marks) != 1:
        raise ConfigurationError(
            f"{where} needs one description: Annotated[…, Setting('what it is')]"
        )
    if info.default is not msgspec.NODEFAULT:
        default = info.default
    elif info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    else:
        raise ConfigurationError(f"{where} needs a default: it is served while nothing is stored")
    declared = {item.name: getattr(marks[0], item.name) for item in fields(Setting)}
    return {**declared, "default": default, "type": hint}
