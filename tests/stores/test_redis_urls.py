"""What a URL of a Redis may say, for the settings and for the notices."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.errors import ConfigurationError
from uwsgi_waffle.redis_servers.urls import check_redis_url, parse_redis_url

LOCAL = (("localhost", 6379),)


@pytest.mark.parametrize(
    ("url", "hosts", "service", "options"),
    [
        ("redis://", LOCAL, "", {}),
        ("redis:///2", LOCAL, "", {"db": 2}),
        ("redis://db1:7000/0", (("db1", 7000),), "", {"db": 0}),
        ("redis://[::1]:7000", (("::1", 7000),), "", {}),
        ("redis://:p%2Fw%40@db1", (("db1", 6379),), "", {"password": "p/w@"}),
        ("redis://ann:a@b@db1?db=3", (("db1", 6379),), "", {"username": "ann", "db": 3}),
        (
            "redis+sentinel://ann:pw@s1:7000,s2,[::1]/my%20shop/4",
            (("s1", 7000), ("s2", 26379), ("::1", 26379)),
            "my shop",
            {"username": "ann", "password": "pw", "db": 4},
        ),
        ("redis+cluster://n1:7000,n2", (("n1", 7000), ("n2", 6379)), "", {}),
        (
            "rediss://db1?ssl_check_hostname=false&ssl_min_version=771",
            (("db1", 6379),),
            "",
            {"ssl_check_hostname": False, "ssl_min_version": 771},
        ),
    ],
)
def test_url_names_servers_and_how_to_connect(
    url: str, hosts: tuple[tuple[str, int], ...], service: str, options: dict[str, Any]
) -> None:
    found = parse_redis_url(url, key="WAFFLE_REDIS_URL")
    assert (found.hosts, found.service) == (hosts, service)
    assert options.items() <= found.options.items()
    assert found.tls is url.startswith("rediss")


def test_socket_is_named_by_its_path() -> None:
    found = parse_redis_url("unix://ann:pw@/run/redis.sock?db=2", key="WAFFLE_REDIS_URL")
    assert (found.path, found.hosts) == ("/run/redis.sock", ())
    assert found.options == {"username": "ann", "password": "pw", "db": 2}


def test_sentinels_have_credentials_of_their_own_and_the_same_tls(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    found = parse_redis_url(
        f"rediss+sentinel://:pw@s1/shop?sentinel_username=eve&sentinel_password=s3&ssl_ca_certs={ca}",
        key="WAFFLE_REDIS_URL",
    )
    tls = {"ssl_ca_certs": str(ca), "ssl_check_hostname": True}
    assert found.asking == {"username": "eve", "password": "s3", **tls}
    assert found.options == {"password": "pw", **tls}


def test_same_servers_are_one_place_whoever_uses_them() -> None:
    def place(url: str) -> object:
        return parse_redis_url(url, key="WAFFLE_REDIS_URL").place

    assert place("redis://ann:pw@db1/0") == place("rediss://db1:6379/3")
    assert place("redis+sentinel://s1,s2/shop") == place("redis+sentinel://:x@s2,s1/shop/1")
    different = ["redis://db1", "redis://db1:7000", "unix:///db1", "redis+cluster://db1"]
    different += ["redis+sentinel://db1/a", "redis+sentinel://db1/b"]
    assert len({place(url) for url in different}) == len(different)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "schemes"),
        ("db1:6379", "schemes"),
        ("http://db1", "schemes"),
        ("unix+sentinel:///s3cr3t", "schemes"),
        ("redis://db1:s3cr3t", "host is name:port"),
        ("redis://db1:0", "host is name:port"),
        ("redis://db1:65536", "host is name:port"),
        ("redis://ann:s3cr3t/4711@db1", "host is name:port"),
        ("redis://a,b", "host is name:port"),
        ("redis+sentinel://a,,b/shop", "host is name:port"),
        ("redis+sentinel://a,b", "/service"),
        ("redis+cluster://a/1", "no database but 0"),
        ("redis://db1/shop", "the database is a number"),
        ("unix://run/redis.sock", "absolute path"),
        ("redis://db1?socket_timeout=9", "WAFFLE_STORE_TIMEOUT"),
        ("redis://db1?retry_on_timeout=true", "nothing is sent twice"),
        ("redis://db1?sentinel_password=s3cr3t", "no parameter 'sentinel_password'"),
        ("redis://db1?ssl_ca_certs=/ca.pem", "rediss"),
        ("rediss://db1?ssl_ca_certs=/no/such/ca.pem", "names /no/such/ca.pem"),
        ("rediss://db1?ssl_cert_reqs=s3cr3t", "required, optional or none"),
        ("rediss://db1?ssl_check_hostname=perhaps", "true or false"),
    ],
)
def test_url_that_names_no_redis_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_redis_url(url, key="WAFFLE_STORE_URL")
    assert str(caught.value).startswith("WAFFLE_STORE_URL does not name a Redis")
    assert why in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)).replace(repr(url), "")
    assert "s3cr3t" not in shown


def test_url_is_checked_without_a_driver() -> None:
    code = (
        "import sys; from uwsgi_waffle.redis_servers.urls import check_redis_url; "
        "check_redis_url('redis://db1'); print('redis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
