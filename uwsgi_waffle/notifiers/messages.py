"""The messages on a channel between hosts: one for each change, in JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from .base import MAX_ASKS, Notice

logger = logging.getLogger("uwsgi_waffle")

MALFORMED_LOG_INTERVAL_S = 60.0
#: a question is a random text, and may ask which requests run, too
ASK = r"^[0-9a-f]{0,32}(\.drained)?\Z"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notice as it is published on a channel; anything else in it is ignored.

    Values are never taken from a message: who can publish on the channel need not be one who may
    change settings.
    """

    revision: int
    epoch: str = ""
    mark: str = ""
    ask: Annotated[str, msgspec.Meta(pattern=ASK)] = ""


_decode = msgspec.json.Decoder(Message).decode


def encode(revision: int, epoch: str = "", mark: str = "", ask: str = "") -> bytes:
    """Return the message that announces a revision, and may ask who has it."""
    return msgspec.json.encode(Message(revision, epoch, mark, ask))


class Inbox:
    """Makes one notice of the messages that came together; ignores, counts and logs the malformed.

    :ivar malformed: how many there were.

    :param channel: how the log calls the channel.
    :param fix: what to do about messages that are none.
    """

    def __init__(
        self, channel: str, fix: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._fix = fix
        self._clock = clock
        self._logged_at: float | None = None
        self.malformed = 0

    def merged(self, notice: Notice | None, data: Any) -> Notice | None:
        """Return the notice of a message and of those that came before it, if there are any."""
        try:
            message = _decode(data)
        except Exception as exc:
            # Whatever is wrong with a message, no message may end the subscription.
            self._log_malformed(data, exc)
            return notice
        heard = Notice(message.revision, message.epoch, message.mark)
        asks = (message.ask,) if message.ask else ()
        if notice is not None:
            # Of two different revisions neither can be trusted to be the newer.
            heard = heard if replace(notice, asks=()) == heard else Notice(None)
            asks = (*notice.asks, *asks)[-MAX_ASKS:]
        return replace(heard, asks=asks)

    def _log_malformed(self, data: object, exc: Exception) -> None:
        self.malformed += 1
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= MALFORMED_LOG_INTERVAL_S:
            self._logged_at = now
            logger.warning(
                "ignored a malformed message on the %s, %d so far (%s): %.80r; %s",
                self._channel,
                self.malformed,
                exc,
                data,
                self._fix,
            )
