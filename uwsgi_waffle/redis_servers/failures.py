"""Sentences about failures of a Redis, each with its fix."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Literal, NamedTuple

import redis
from redis.sentinel import MasterNotFoundError

from ..masking import redact

#: ``passing``: it can't serve this now, and did nothing; ``refused``: it, or the connection to it,
#: needs a person, and it did nothing; ``lost``: there is no answer
Kind = Literal["passing", "refused", "lost"]


class Failure(NamedTuple):
    """A failure of Redis.

    :ivar text: a sentence with the fix, without any password.
    """

    kind: Kind
    text: str


class Place(NamedTuple):
    """Where a Redis is, and what is used of it, as messages name them.

    :ivar shown: its URL without a password.
    :ivar key: of ``app.config``, that has the URL.
    :ivar keys: what our keys begin with; empty if none are used.
    :ivar channel: empty if none is used.
    """

    shown: str
    key: str
    keys: str = ""
    channel: str = ""


_ONE = "redis://user:password@host:6379/0"
_ACL = "let this user do it, as `ACL SETUSER` on the page about several hosts does"
# What it says, of which kind that is, and the fix; the first that fits is taken. redis-py leaves
# out the first word of most answers. Source: Redis documentation, "ACL", "Cluster specification",
# "TLS"; the answers of Redis 5 to 7.
_TABLE: tuple[tuple[str, Kind, str], ...] = (
    (
        r"(?i)hostname mismatch|ip address mismatch|doesn't match (either|')",
        "refused",
        "the server's certificate is for another host name: name the host in {key} as its "
        "certificate does",
    ),
    (
        r"certificate has expired|certificate is not yet valid",
        "refused",
        "the server's certificate is not valid at this time: renew it, or set this host's clock",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "refused",
        "the server's certificate is not trusted: name the file of the authority that signed it "
        "in {key}: rediss://…?ssl_ca_certs=/path/ca.pem",
    ),
    (
        r"(?i)WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH",
        "refused",
        "this port takes no TLS: name the server's tls-port in {key}, or write redis://…",
    ),
    (
        r"(?i)CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE",
        "refused",
        "the server asks for a certificate of the client: add "
        "?ssl_certfile=/path/client.pem&ssl_keyfile=/path/client.key to {key}",
    ),
    (
        r"(?i)ALERT_UNKNOWN_CA|ALERT_BAD_CERTIFICATE|DECRYPT_ERROR",
        "refused",
        "the server does not trust the client's certificate: name in {key}, as ssl_certfile, one "
        "that its tls-ca-cert-file has signed",
    ),
    (
        r"KEY_VALUES_MISMATCH|no start line|NO_START_LINE|PEM lib|bad decrypt|BAD_DECRYPT",
        "refused",
        "a certificate or its key can't be used: check ssl_ca_certs, ssl_certfile, ssl_keyfile "
        "and ssl_password in {key}",
    ),
    (
        r"(?i)WRONGPASS|invalid username-password|invalid password|invalid username or password",
        "refused",
        f"its user name or password is wrong: check them in {{key}}, {_ONE}, with special "
        "characters as %XX",
    ),
    (
        r"(?i)without any password configured|no password is set",
        "refused",
        "the server has no password: take it out of {key}, or give the server one",
    ),
    (
        r"(?i)NOAUTH|Authentication required|HELLO must be called",
        "refused",
        f"the server asks for a password: write it in {{key}}, {_ONE}",
    ),
    (
        r"NOPERM|(?i:can't run this command|has no permissions|can't access at least one|"
        r"No permissions to access)",
        "refused",
        _ACL,
    ),
    (
        r"\b(MOVED|ASK) \d+ (?P<what>\S+)",
        "passing",
        "the cluster has moved the keys; the next call follows",
    ),
    (
        r"(?i)cluster support disabled",
        "refused",
        "the server is in no cluster: write redis:// in {key}",
    ),
    (
        r"CROSSSLOT|don't hash to the same slot",
        "refused",
        "in a cluster all keys must be in one hash slot: give the prefix one hash tag, such as "
        "{{shop}}:",
    ),
    (
        r"\bCLUSTERDOWN\b|The cluster is down|Hash slot not served",
        "passing",
        "no node serves some of the cluster's hash slots: this heals by itself after a failover, "
        "or start the nodes that are missing",
    ),
    (
        r"\b(LOADING|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|TRYAGAIN|BUSY)\b"
        r"|read only replica|MASTER is down|Redis is loading|running a script"
        r"|previous master is now a slave|Multiple keys request during rehashing",
        "passing",
        "this heals by itself after a failover",
    ),
    (
        r"(?i)\bOOM\b|used memory > 'maxmemory'",
        "refused",
        "its memory is full: raise maxmemory, or remove what is not needed",
    ),
    (
        r"(?i)max number of clients",
        "refused",
        "it has as many connections as it may: raise its maxclients, or end some",
    ),
    (
        r"DENIED|protected mode",
        "refused",
        "it takes connections of its own host only: give it a password, and bind it to the "
        "address that the app uses",
    ),
    (
        r"(?i)DB index is out of range|invalid DB index|SELECT is not allowed",
        "refused",
        "it has no database of this number: write another in {key}, or none",
    ),
    (
        r"(?i)unknown command",
        "refused",
        "it must be a Redis 5 or newer whose commands have their own names",
    ),
    (
        r"(?i)name or service not known|nodename nor servname|name resolution|"
        r"no address associated",
        "lost",
        "this host does not know that name: check the host in {key}, and the host's DNS",
    ),
)
_ROWS = [(re.compile(pattern, re.DOTALL), kind, fix) for pattern, kind, fix in _TABLE]
_COMMAND = re.compile(r"run the '([^']+)' command", re.IGNORECASE)


def failure_of(exc: BaseException, place: Place) -> Failure:
    """Return what an error of redis-py, or of a socket, means."""
    said = redact(str(exc)).rstrip(".") or type(exc).__name__
    if isinstance(exc, MasterNotFoundError):
        # Which has its fix already.
        return Failure("passing", f"Redis at {place.shown}: {said}")
    kind, fix = _meaning(exc, place)
    return Failure(kind, f"Redis at {place.shown}: {said}; {fix}")


def is_moved(exc: BaseException) -> bool:
    """Return whether a node of a cluster names another; nothing was done."""
    # Older versions of redis-py have a type for it in their client of clusters only.
    types = (redis.exceptions.MovedError, redis.exceptions.AskError)
    return isinstance(exc, types) or (
        isinstance(exc, redis.ResponseError) and str(exc).startswith(("MOVED ", "ASK "))
    )


def _meaning(exc: BaseException, place: Place) -> tuple[Kind, str]:
    scheme = place.shown.partition("://")[0]
    if is_moved(exc) and "+cluster" not in scheme:
        return "refused", (
            f"it is one node of a cluster, and the keys are on another: write in {place.key} "
            "redis+cluster:// and the nodes"
        )
    text = "\n".join(_texts(exc))
    for pattern, kind, fix in _ROWS:
        if pattern.search(text):
            return kind, _permission(text, place) if fix is _ACL else fix.format(key=place.key)
    if isinstance(exc, redis.exceptions.BusyLoadingError):
        return "passing", "this heals by itself after a failover"
    if isinstance(exc, redis.RedisError) and not isinstance(
        exc, redis.ConnectionError | redis.TimeoutError
    ):
        return "refused", "it must be a Redis 5 or newer that we may write to"
    return "lost", _advice(text, scheme.partition("+")[0], place.key)


def _advice(text: str, scheme: str, key: str) -> str:
    advice = f"check that it is running, and that {key} names it"
    ended = re.search(r"(?i)closed by server|reset by peer|broken pipe|EOF occurred", text)
    # A port that waits for the other kind of beginning says nothing, or ends the connection; so
    # does a server that is not content with the client's certificate, once TLS 1.3 has begun.
    if scheme == "redis" and ended:
        advice += "; if its port takes TLS only, write rediss://…"
    elif scheme == "rediss" and ended:
        advice += (
            "; if it asks for a certificate of the client, add ?ssl_certfile=/path/client.pem&"
            "ssl_keyfile=/path/client.key, signed by an authority that it trusts"
        )
    elif scheme == "rediss" and re.search(r"(?i)timed? ?out", text):
        advice += "; if this port takes no TLS, name the server's tls-port, or write redis://…"
    return advice


def _permission(text: str, place: Place) -> str:
    """Return the right that is missing, as ``ACL SETUSER`` has it, if it can be seen."""
    command = _COMMAND.search(text)
    if command is not None:
        right = "+" + command[1].lower().replace(" ", "|")
    elif re.search(r"(?i)channel", text) and place.channel:
        right = f"&{place.channel}"
    elif re.search(r"(?i)\bkeys?\b", text) and place.keys:
        right = f"~{place.keys}*"
    else:
        right = ""
    grant = f": `ACL SETUSER <user> {right}`" if right else ""
    return (
        f"the user's access list lacks a right{grant}; the page about several hosts has the "
        "whole line"
    )


def _texts(exc: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield str(current)
        if isinstance(current, ssl.SSLError):
            yield str(current.reason or "")
        current = current.__cause__ or current.__context__
