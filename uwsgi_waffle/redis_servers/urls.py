"""The URLs of a Redis: of one server, of sentinels that know it, or of a cluster's nodes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from ..errors import ConfigurationError
from ..masking import OwnRepr
from . import SCHEMES

_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_HOST = re.compile(r"(\[[^\[\]]+\]|[^\[\]:/,\s]*)(?::(\d{1,5}))?")
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
#: what the app's own keys say
_OURS = ("socket_timeout", "socket_connect_timeout", "timeout", "retry_on_timeout")


class RedisUrl(OwnRepr, frozen=True):
    """A Redis, as a URL names it.

    :ivar kind: ``""`` of one server, ``"sentinel"`` or ``"cluster"``.
    :ivar hosts: the server, the sentinels, or the nodes to ask; name and port of each.
    :ivar path: of a Unix socket, else empty.
    :ivar service: what the sentinels call the server.
    :ivar options: keyword arguments of a connection.
    :ivar asking: keyword arguments of a connection to a sentinel.
    :ivar own: parameters of the query that are the caller's.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    tls: bool
    options: dict[str, Any]
    asking: dict[str, Any]
    own: dict[str, str]

    def __repr__(self) -> str:
        # Its options hold passwords.
        return f"<RedisUrl {self.kind} {self.place!r}>"

    @property
    def place(self) -> tuple[object, ...]:
        """Names the servers, without the user and the database."""
        return self.kind, self.path, self.service, *sorted(self.hosts)


def check_redis_url(url: str, *, key: str = "WAFFLE_REDIS_URL") -> None:
    """Refuse a URL that names no Redis; imports no driver, and connects to nothing.

    :param key: of ``app.config``, for the message.
    :raises ConfigurationError: it is no such URL, or a file that it names can't be read; the
        message holds no password.
    """
    parse_redis_url(url, key=key)


def parse_redis_url(url: str, *, key: str, own: tuple[str, ...] = ()) -> RedisUrl:
    """Return what a URL names.

    :param own: parameters of the query that are the caller's.
    :raises ConfigurationError: see :func:`check_redis_url`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        _refuse(key, "it begins with none of the schemes below")
    driver, _, kind = scheme.partition("+")
    address, _, query = rest.partition("?")
    netloc, _, path = address.partition("/")
    login, at, hosts = netloc.rpartition("@")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    mine = {name: parameters.pop(name) for name in own if name in parameters}
    asking: dict[str, Any] = {}
    if kind == "sentinel":
        for name in ("username", "password"):
            if f"sentinel_{name}" in parameters:
                asking[name] = parameters.pop(f"sentinel_{name}")
    tls = driver == "rediss"
    # By itself, redis-py 5 takes a trusted certificate of any host.
    options: dict[str, Any] = {"ssl_check_hostname": True} if tls else {}
    options |= _options(parameters, tls, key)
    if options.get("ssl_cert_reqs") == "none":
        options["ssl_check_hostname"] = False
    if at:
        user, _, password = login.partition(":")
        options |= {"username": unquote(user)} if user else {}
        options |= {"password": unquote(password)} if password else {}
    if driver == "unix":
        if hosts or not path:
            _refuse(key, "a Unix socket is named by an absolute path: unix:///path/to/socket")
        place, service = f"/{unquote(path)}", ""
        addresses: tuple[tuple[str, int], ...] = ()
    else:
        place, service = "", ""
        addresses = tuple(_addresses(hosts, kind, key))
        if kind == "sentinel":
            service, _, path = path.partition("/")
            if not service:
                _refuse(key, "after the sentinels stands what they call the server: /service")
        if path:
            options.setdefault("db", _number(path, "the database", key))
        if kind == "cluster" and options.get("db"):
            _refuse(key, "a cluster has no database but 0")
    if tls:
        shared = {name: value for name, value in options.items() if name.startswith("ssl_")}
        asking |= shared
    return RedisUrl(kind, addresses, place, unquote(service), tls, options, asking, mine)


def _addresses(hosts: str, kind: str, key: str) -> Iterator[tuple[str, int]]:
    listed = hosts.split(",") if kind else [hosts]
    for each in listed:
        match = _HOST.fullmatch(each)
        if match is None or (kind and not match[1]) or not 0 < int(match[2] or 1) < 65_536:
            # Without the text: of a password that holds a "/", it has the beginning.
            _refuse(key, "a host is name:port or [IPv6]:port")
        host = unquote(match[1].strip("[]")) or "localhost"
        yield host, int(match[2] or _PORTS[kind])


def _options(parameters: Mapping[str, str], tls: bool, key: str) -> Iterator[tuple[str, Any]]:
    for name, text in parameters.items():
        if name in _OURS:
            _refuse(
                key,
                f"it has no {name}: WAFFLE_REDIS_TIMEOUT, WAFFLE_STORE_TIMEOUT and "
                "WAFFLE_WRITE_TIMEOUT say how long, and nothing is sent twice",
            )
        if name not in _READ:
            _refuse(key, f"it has no parameter {name!r}")
        if name.startswith("ssl_") and not tls:
            _refuse(key, f"{name} needs a scheme that begins with rediss")
        if name in _FILES and not os.access(text, os.R_OK):
            _refuse(key, f"{name} names {text}, which this user can't read")
        yield name, _READ[name](text, name, key)


def _text(text: str, name: str, key: str) -> str:
    return text


def _number(text: str, name: str, key: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        _refuse(key, f"{name} is a number")
    return int(text)


def _flag(text: str, name: str, key: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        _refuse(key, f"{name} is true or false")
    return text.lower() in ("true", "1", "yes")


def _reqs(text: str, name: str, key: str) -> str:
    if text not in ("required", "optional", "none"):
        _refuse(key, f"{name} is required, optional or none")
    return text


_READ: dict[str, Callable[[str, str, str], Any]] = {
    **dict.fromkeys(("username", "password", "client_name", *_FILES), _text),
    **dict.fromkeys(("ssl_password", "ssl_ciphers"), _text),
    **dict.fromkeys(("db", "protocol", "health_check_interval", "max_connections"), _number),
    "ssl_min_version": _number,
    **dict.fromkeys(("socket_keepalive", "ssl_check_hostname"), _flag),
    "ssl_cert_reqs": _reqs,
}


def _refuse(key: str, why: str) -> NoReturn:
    raise ConfigurationError(
        f"{key} does not name a Redis ({why}): write redis://user:password@host:6379/0, rediss://… "
        "for TLS, unix:///path/to/socket, redis+sentinel://host:26379,host2/service/0 or "
        "redis+cluster://host:6379,host2, with special characters of a password as %XX"
    )
