"""Note a problem in the status, and log it when it is new."""

from __future__ import annotations

import logging

from ..core.codes import KINDS
from .status import Status

LOG = logging.getLogger(__name__)


def tell(status: Status, code: str, reason: str, *, about: str = "") -> None:
    """Note that ABOUT has the problem CODE for REASON; "": it is over."""
    if status.note(code, reason, about=about):
        where = f"network={about} " if about else ""
        LOG.warning("%s%s %s: %s", where, code, KINDS[code].title, reason)
