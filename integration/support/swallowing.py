"""A TCP proxy that loses the answer of one request."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def swallowing(port: int, needle: bytes) -> Iterator[tuple[int, Callable[[], int]]]:
    """Give the port of a proxy before a server on loopback, and what counts lost answers.

    The first request that holds some bytes reaches the server; its answer is dropped, and the
    connection closed. All others pass.

    :param needle: what the request holds, in one packet.
    """
    lost = 0
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(client: socket.socket) -> None:
        nonlocal lost
        with (
            client,
            socket.create_connection(("127.0.0.1", port)) as server,
            selectors.DefaultSelector() as ready,
        ):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while not ended.is_set():
                for key, _ in ready.select(0.05):
                    data = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket
                    if not data:
                        return
                    key.data.sendall(data)
                    if key.fileobj is client and needle in data and not lost:
                        lost += 1
                        # Only when the server has answered is the request done.
                        server.recv(65_536)
                        return

    def accept() -> None:
        listener.settimeout(0.05)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = listener.accept()
                client.settimeout(None)
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1], lambda: lost
    finally:
        ended.set()
        acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()
