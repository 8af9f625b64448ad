"""By what the processes of one app announce their changes, and hear of those of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..notifiers.base import Notifier
from ..notifiers.file import FileNotifier
from .page import Page, is_open


class Notices:
    """Makes the notifiers of one app, new ones for each process.

    :ivar make_channel: makes the notifier between hosts; ``None`` if there is none.

    :param channel: the name of that notifier.
    :param poll_interval_s: longest time between two looks at the watch file.
    """

    def __init__(
        self,
        watch_file: Path,
        *,
        channel: str,
        make_channel: Callable[[], Notifier] | None,
        poll_interval_s: float,
    ) -> None:
        self.make_channel = make_channel
        self._watch_file = watch_file
        self._channel = channel
        self._poll_interval_s = poll_interval_s

    def host(self, **more: Any) -> FileNotifier:
        """Return a new notifier for the processes of this host; opens nothing."""
        return FileNotifier(self._watch_file, poll_interval_s=self._poll_interval_s, **more)

    def publisher(self) -> Notifier | None:
        """Return what announces to other hosts, or ``None`` if there is no channel."""
        if self.make_channel is None:
            return None
        from ..notifiers.publisher import Publisher

        return Publisher(self._channel, self.make_channel)

    def listener(self, page: Page) -> Notifier:
        """Return what the watcher of a process waits for: its host's notices, and the channel's."""
        # A look before the commit is over would only have to be made again.
        files = self.host(also=[page.path], quiet=lambda: is_open(page.words()))
        files.prepare()
        if self.make_channel is None:
            return files
        # As the publisher: where there is no channel, a worker pays for neither.
        from .ear import Ear

        return Ear(
            self._channel, self.make_channel, files, page, poll_interval_s=self._poll_interval_s
        )
