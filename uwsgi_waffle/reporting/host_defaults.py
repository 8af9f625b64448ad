"""The defaults and pins of each host of an app, so that those that differ can be named."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import msgspec

from ..settings.declarations import Declaration, Declarations

#: the hosts that are kept, the newest; containers get a new name at each start
MOST_HOSTS = 50
_SHOWN = 5
_PINNED, _OWN = "pinned ", "own "
_DECLARED = ""


class HostDefaults(msgspec.Struct, frozen=True):
    """How the defaults of one host differ from the declared ones.

    :ivar at: when that was said, in seconds since 1970 by that host's clock.
    :ivar differs: mapping of setting name to what tells its default and its pin apart from
        another host's; no value can be had from it, and of a secret not even a hash.
    """

    at: float
    differs: dict[str, str]


def differs_here(declarations: Declarations) -> dict[str, str]:
    """Return for this process what :attr:`HostDefaults.differs` holds."""
    found = {name: _signature(declaration) for name, declaration in declarations.items()}
    return {name: signature for name, signature in found.items() if signature != _DECLARED}


def with_host(
    known: Mapping[str, HostDefaults], host: str, own: HostDefaults, lifetime_s: float
) -> dict[str, HostDefaults]:
    """Return the entries of all hosts with a new one; those that were not seen of late go."""
    kept = [(name, each) for name, each in known.items() if own.at - each.at < lifetime_s]
    kept.sort(key=lambda item: item[1].at)
    return {**dict(kept[-(MOST_HOSTS - 1) :]), host: own}


def differences(hosts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return each setting whose default or pin is not the same on all hosts, for people.

    :param hosts: mapping of a host's name to :attr:`HostDefaults.differs`.
    """
    found = []
    for name in sorted({name for differs in hosts.values() for name in differs}):
        groups: dict[str, list[str]] = defaultdict(list)
        for host, differs in sorted(hosts.items()):
            groups[differs.get(name, _DECLARED)].append(host)
        if len(groups) > 1:
            said = "; ".join(f"{_listed(group)}: {_said(sign)}" for sign, group in groups.items())
            found.append(f"{name} ({said})")
    return found


def _signature(declaration: Declaration) -> str:
    pinned = _PINNED if declaration.pinned else ""
    if declaration.default_from != "config":
        return pinned or _DECLARED
    digest = "secret"
    if not declaration.secret:
        raw = declaration.default_raw.encode(errors="surrogatepass")
        digest = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return f"{pinned}{_OWN}{digest}"


def _said(signature: str) -> str:
    said = "a default of its own" if _OWN in signature else "the declared default"
    return f"{said}, pinned" if signature.startswith(_PINNED) else said


def _listed(hosts: list[str]) -> str:
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
