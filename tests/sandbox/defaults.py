"""The agent's settings where the operator has set nothing."""

from __future__ import annotations

import functools

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.settings import Settings


@functools.cache
def defaults() -> Settings:
    """Return the settings of an empty file."""
    return options.load(["--config-file", "/dev/null"])[1]
