"""A Redis that takes TLS only, with certificates of a private authority."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.errors import ConfigurationError, NotifierError, StoreUnavailable
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.testing.assertions import stored

from .support.find import need_program, need_redis_with_tls
from .support.processes import free_port
from .support.redis_server import RedisServer

pytestmark = [pytest.mark.redis_server, pytest.mark.timeout(120)]


class Secured:
    """A server with a plain port and one for TLS, and the files of its authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("ca", "other"):
            self._openssl(
                *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
                *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
                # Python 3.13 and later take no authority that does not say so.
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            )
        for name in ("server", "client"):
            extensions = folder / f"{name}.ext"
            extensions.write_text(
                "subjectAltName=DNS:localhost\n"
                "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
            )
            self._openssl(
                *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
            )
            self._openssl(
                *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
                *("-CAcreateserial", "-days", "30", "-extfile", extensions.name),
                *("-out", f"{name}.pem"),
            )
        options = ["--tls-port", str(self.port), "--tls-auth-clients", "yes"]
        options += ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]
        options += ["--tls-ca-cert-file", "ca.pem"]
        self.server = RedisServer(folder, options=options, program=need_redis_with_tls())

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            [need_program("openssl"), *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def url(
        self,
        *,
        scheme: str = "rediss",
        host: str = "localhost",
        port: int | None = None,
        ca: str = "ca",
        client: str = "client",
    ) -> str:
        files = {"ssl_ca_certs": ca and f"{ca}.pem"}
        if client:
            files |= {"ssl_certfile": f"{client}.pem", "ssl_keyfile": f"{client}.key"}
        query = "&".join(f"{name}={self.folder / file}" for name, file in files.items() if file)
        return f"{scheme}://{host}:{port or self.port}/0" + (f"?{query}" if query else "")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("tls"))
    with contextlib.ExitStack() as stack:
        stack.callback(secured.server.stop)
        secured.server.start()
        yield secured


def test_settings_and_notices_travel_by_tls_with_a_private_authority(secured: Secured) -> None:
    store = RedisStore(secured.url(), timeout_s=10.0, write_timeout_s=10.0)
    notifier = RedisNotifier(secured.url(), "shop", timeout_s=10.0)
    assert notifier.wait(10.0) == Notice(None)
    store.prepare()
    store.write({"A": "1"})
    assert stored(store) == {"A": "1"}
    notifier.announce(1)
    assert notifier.wait(10.0) == Notice(1)
    notifier.close()
    store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (lambda s: s.url(ca="other"), "is not trusted: .*ssl_ca_certs"),
        (lambda s: s.url(ca="", client=""), "is not trusted: .*ssl_ca_certs"),
        (lambda s: s.url(host="127.0.0.1"), "for another host name"),
        # By an alert, or by an end of the connection that comes before it.
        (lambda s: s.url(client=""), "asks for a certificate of the client"),
        (lambda s: s.url(client="other"), "ssl_certfile"),
        (lambda s: s.url(port=s.server.port), "this port takes no TLS"),
        (lambda s: s.url(scheme="redis", ca="", client=""), "if its port takes TLS only"),
    ],
    ids=["other-ca", "no-ca", "host", "no-client", "other-client", "plain-port", "tls-port"],
)
def test_what_is_wrong_about_tls_is_named(
    secured: Secured, url: Callable[[Secured], str], says: str
) -> None:
    # The plain port says nothing at all.
    timeout_s = 1.0 if "no TLS" in says else 10.0
    store = RedisStore(url(secured), timeout_s=timeout_s)
    with pytest.raises(StoreUnavailable, match=says) as caught:
        store.read_since(0, "")
    assert "the URL" in str(caught.value)
    store.close()
    notifier = RedisNotifier(url(secured), "shop", timeout_s=timeout_s)
    with pytest.raises(NotifierError, match=says):
        notifier.announce(1)
    notifier.close()


# redis-py 5 leaves the socket to the garbage collector when its certificate can't be used.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_key_that_belongs_to_another_certificate_is_named(secured: Secured) -> None:
    url = secured.url().replace("client.key", "server.key")
    store = RedisStore(url, timeout_s=10.0)
    with pytest.raises(StoreUnavailable, match="a certificate or its key can't be used"):
        store.read_since(0, "")
    store.close()


def test_file_that_is_missing_is_an_error_at_the_start(secured: Secured) -> None:
    with pytest.raises(ConfigurationError, match=r"ssl_ca_certs names .*nothing.pem"):
        RedisStore(secured.url(ca="nothing"))
