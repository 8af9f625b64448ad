"""Bounds a call of a database driver that may wait for its server for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from ...errors import WaffleError


class Cut:
    """Cuts a connection when its time is over; the call that waits for it then fails.

    A timeout of the server's own does not help while the server is stopped or the network is
    gone, and the drivers of PostgreSQL have none on this side.

    Source: PostgreSQL documentation, "Database Connection Control Functions": ``connect_timeout``
    covers connecting only, ``tcp_user_timeout`` only data that the other host does not confirm.

    :param connection: the driver's connection; without ``fileno`` nothing is done.
    """

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self.happened = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if hasattr(connection, "fileno"):
            # A descriptor of its own: the driver's may be closed, and its number reused.
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
            self._timer = threading.Timer(max(timeout_s, 0.0), self._fire)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Leave the connection alone from now on."""
        if self._socket is not None:
            self._timer.cancel()
            with self._lock:
                self._socket.close()

    def _fire(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None and self._socket.fileno() >= 0:
                self.happened = True
                self._socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cut_after(connection: Any, timeout_s: float) -> Iterator[None]:
    """Bound what is done with a driver's connection in this context.

    :raises TimeoutError: the time was over, and the connection was cut.
    """
    cut = Cut(connection, timeout_s)
    try:
        yield
    except WaffleError:
        # It says more than that the time was over.
        raise
    except Exception as exc:
        if cut.happened:
            raise TimeoutError("it did not answer in time") from exc
        raise
    finally:
        cut.cancel()
