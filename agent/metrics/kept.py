"""Keep the counters in a file, so that the next agent continues them."""

import json
import logging
from pathlib import Path

from ..haproxy import files
from .meter import Meter

LOG = logging.getLogger(__name__)

NAME = "ovn-metadata-agent-counters.json"
_MAX_BYTES = 16 * 1024 * 1024


def load(path: Path, meter: Meter) -> None:
    """Let METER continue from the file PATH; ignore one with nonsense."""
    try:
        with path.open() as file:
            meter.restore(json.loads(file.read(_MAX_BYTES)))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        LOG.warning(
            "%s can't be used, the metrics' counters begin at 0: %s",
            path,
            error,
        )


def save(path: Path, meter: Meter) -> None:
    """Write the counters of METER to PATH in one step; raise OSError."""
    files.write(path, json.dumps(meter.plain()))
