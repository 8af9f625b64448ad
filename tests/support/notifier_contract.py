"""What every notifier does, whatever it is made of: subclass it and fill in the fixtures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from uwsgi_waffle.notifiers import Notice, Notifier

DEADLINE_S = 10.0


class NotifierContract:
    """Holds for notifiers that are connected to one another.

    A subclass has a fixture ``make``, which returns a function that makes another notifier of the
    same channel. The notices of a fresh one are drained first: a new subscription is one itself.
    """

    @pytest.fixture
    def make(self) -> Callable[[], Notifier]:
        raise NotImplementedError

    @pytest.fixture
    def here(self, make: Callable[[], Notifier]) -> Iterator[Notifier]:
        notifier = make()
        yield notifier
        notifier.close()

    @pytest.fixture
    def there(self, make: Callable[[], Notifier]) -> Iterator[Notifier]:
        notifier = make()
        self.drain(notifier)
        yield notifier
        notifier.close()

    def drain(self, notifier: Notifier) -> None:
        """Take what a fresh notifier has to say, until it is silent for a while."""
        while notifier.wait(0.1) is not None:
            pass

    def hear(self, notifier: Notifier) -> Notice:
        """Wait for a notice; every call may block for its own bound only."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            notice = notifier.wait(0.2)
            if notice is not None:
                return notice
        raise AssertionError("no notice came")

    def test_it_has_a_name_for_logs(self, here: Notifier) -> None:
        assert here.name

    def test_announced_revision_reaches_another(self, here: Notifier, there: Notifier) -> None:
        here.announce(7)
        assert self.hear(there) in (Notice(7), Notice(None))

    def test_announced_revision_reaches_everyone(
        self, here: Notifier, make: Callable[[], Notifier]
    ) -> None:
        others = [make() for _ in range(3)]
        for other in others:
            self.drain(other)
        here.announce(7)
        try:
            for other in others:
                assert self.hear(other) in (Notice(7), Notice(None))
        finally:
            for other in others:
                other.close()

    def test_each_of_many_announcements_leads_to_the_last_one(
        self, here: Notifier, there: Notifier
    ) -> None:
        for revision in range(1, 51):
            here.announce(revision)
        notice = self.hear(there)
        while notice not in (Notice(50), Notice(None)):
            notice = self.hear(there)

    def test_same_revision_twice_is_announced_twice(self, here: Notifier, there: Notifier) -> None:
        for _ in range(2):
            here.announce(7)
            assert self.hear(there) in (Notice(7), Notice(None))

    def test_silence_is_none_within_the_bound(self, there: Notifier) -> None:
        started = time.monotonic()
        assert there.wait(0.05) is None
        assert time.monotonic() - started < 2.0

    def test_notice_is_given_once(self, here: Notifier, there: Notifier) -> None:
        here.announce(7)
        self.hear(there)
        assert there.wait(0.1) is None

    def test_several_threads_may_announce_at_once(self, here: Notifier, there: Notifier) -> None:
        threads = [threading.Thread(target=here.announce, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        self.hear(there)

    def test_close_ends_a_wait_that_is_under_way(self, there: Notifier) -> None:
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            there.wait(1.0)

        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(DEADLINE_S)
        there.close()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()

    def test_closed_notifier_gives_no_notice_and_may_be_closed_again(
        self, here: Notifier, there: Notifier
    ) -> None:
        there.close()
        there.close()
        here.announce(7)
        assert there.wait(0.05) is None
