"""The publisher makes its notifier when there is something to announce, and once."""

from __future__ import annotations

from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.publisher import Publisher


class Noting(Notifier):
    """Keeps what it is called with."""

    def __init__(self, calls: list[tuple[object, ...]]) -> None:
        self.calls = calls
        calls.append(("made",))

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        self.calls.append(("announce", revision, epoch, mark))

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        self.calls.append(("ask", question, revision, epoch, mark))

    def wait(self, timeout_s: float) -> Notice | None:
        raise AssertionError("nobody hears by this one")

    def close(self) -> None:
        self.calls.append(("close",))


def test_notifier_is_made_at_the_first_announcement_and_closed_once() -> None:
    calls: list[tuple[object, ...]] = []
    publisher = Publisher("redis", lambda: Noting(calls))
    assert publisher.name == "redis"
    assert publisher.wait(0.0) is None
    publisher.close()
    assert calls == []
    publisher.announce(3, "e", "m")
    publisher.ask("abc", 4, "e", "n")
    publisher.close()
    publisher.close()
    assert calls == [
        ("made",),
        ("announce", 3, "e", "m"),
        ("ask", "abc", 4, "e", "n"),
        ("close",),
    ]
    publisher.announce(5)
    assert calls[4:] == [("made",), ("announce", 5, "", "")]
