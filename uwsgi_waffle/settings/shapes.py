"""The parts of a declared type: what it is without constraints, and which values it allows."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec


class Shape(msgspec.Struct, frozen=True):
    """A type in its parts.

    :ivar base: the type without constraints and without ``None``; a union of several others
        stays as it is.
    :ivar metas: its constraints, the outer ones first.
    :ivar optional: ``None`` is a value too.
    """

    base: Any
    metas: tuple[msgspec.Meta, ...]
    optional: bool

    @property
    def choices(self) -> Collection[Any] | None:
        """The values of a ``Literal`` or the members of an ``Enum``, else ``None``."""
        if typing.get_origin(self.base) is Literal:
            return typing.get_args(self.base)
        return list(self.base) if isinstance(self.base, enum.EnumMeta) else None

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Return bounds, taken from the constraints where there is none."""
        for meta in self.metas:
            low = meta.ge if low is None else low
            high = meta.le if high is None else high
        return low, high


def shape_of(type_: Any) -> Shape:
    """Return the parts of a type."""
    metas: list[msgspec.Meta] = []
    optional = False
    while True:
        origin, args = typing.get_origin(type_), typing.get_args(type_)
        if origin is Annotated:
            metas += [item for item in args[1:] if isinstance(item, msgspec.Meta)]
            type_ = args[0]
            continue
        if origin in (typing.Union, types.UnionType) and types.NoneType in args:
            optional = True
            rest = [arg for arg in args if arg is not types.NoneType]
            if len(rest) == 1:
                type_ = rest[0]
                continue
        return Shape(type_, tuple(metas), optional)
