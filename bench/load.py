"""Load on a server: by wrk, or where that is not installed by a client of our own."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from integration.support.processes import clean_environment

from .contenders import ROOT

CONNECTIONS = 4


def client() -> str:
    """Return which client makes the load, with its version."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return f"bench/load.py, {CONNECTIONS} threads (wrk is not installed)"
    # It prints its version with its usage, and ends with 1.
    done = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"wrk \S+", done.stdout + done.stderr)
    return f"{found.group(0) if found else 'wrk'}, 1 thread, {CONNECTIONS} connections"


class Load(NamedTuple):
    """What a round of load has come to."""

    requests: int
    requests_per_s: float


def load(port: int, seconds: int) -> Load:
    """Load a server for some seconds.

    :raises RuntimeError: an answer was not 200, or a connection failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        command = [sys.executable, "-m", "bench.load", str(port), str(seconds)]
    else:
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    done = subprocess.run(
        command,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    count = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec: *([\d.]+)", done.stdout)
    failed = "Non-2xx" in done.stdout or "Socket errors" in done.stdout
    if count is None or rate is None or failed:
        raise RuntimeError(f"a round of load failed: {done.stdout}")
    return Load(int(count.group(1)), float(rate.group(1)))


def main(port: int, seconds: int) -> None:
    """Do what wrk does, with less of it."""
    until = time.monotonic() + seconds
    counts = [0] * CONNECTIONS

    def ask(number: int) -> None:
        while time.monotonic() < until:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                answer = b""
                while block := connection.recv(4096):
                    answer += block
            if b" 200 " not in answer[:20]:
                raise RuntimeError(answer.decode(errors="replace"))
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CONNECTIONS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.monotonic() - began
    print(f"{sum(counts)} requests in {elapsed_s:.2f}s")
    print(f"Requests/sec: {sum(counts) / elapsed_s:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
