"""Report a Nova that does not answer, or refuses what we sign."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .errors import HaproxyError
from .haproxy.ledger import growth
from .haproxy.nova_answers import NovaAnswers
from .status import Status

LOG = logging.getLogger(__name__)

# Nobody asks any more: what was the matter may be over.
_CALM_S = 60.0
_FAILS = (
    "Nova's metadata API does not answer (nova_metadata_host): instances "
    "that ask get 503"
)
_REFUSES = (
    "Nova's metadata API refuses what this agent signs (403); is "
    "metadata_proxy_shared_secret the one in nova.conf [neutron]?"
)


class NovaWatch:
    """Compares what the gateway has counted with the last time.

    All is served meanwhile as far as the agent goes: a problem, no failure.
    """

    def __init__(
        self,
        answers: Callable[[], NovaAnswers],
        status: Status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers = answers
        self._status = status
        self._clock = clock
        self._last: NovaAnswers | None = None
        self._seen: dict[str, float] = {}  # by what is told

    def look(self) -> None:
        """Look once; a gateway that does not answer tells nothing."""
        try:
            counted = self._answers()
        except (OSError, HaproxyError) as error:
            # Its reconcile tells whether it is well.
            LOG.debug("the gateway's counters: %s", error)
            return
        before = self._last or counted  # what was before us is not news
        self._last = counted
        fails = growth(before.failed, counted.failed) > 0 or counted.is_down
        refused = growth(before.refused, counted.refused)
        told = growth(before.told, counted.told)
        self._note(_FAILS, now=fails, over=told > 0)
        self._note(_REFUSES, now=refused > 0, over=told > refused)

    def _note(self, text: str, *, now: bool, over: bool) -> None:
        """Tell TEXT if that is so NOW, until it is OVER or long ago."""
        clock = self._clock()
        seen = self._seen.get(text)
        if now:
            self._seen[text] = clock
        elif seen is not None and (over or clock - seen > _CALM_S):
            del self._seen[text]
            LOG.info("over, or nobody asks: %s", text)
        if self._status.trouble(text, text if text in self._seen else ""):
            LOG.warning("%s", text)
