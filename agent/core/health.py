"""How the agent is, in a word: for exit codes, probes and `--watch`."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

HEALTHY = "healthy"
WITH_PROBLEMS = "with problems"
DEGRADED = "degraded"
NOT_READY = "not ready"

# What changes from second to second: that alone is no change of the report.
_VOLATILE = frozenset(
    {
        *("now", "queue", "registration", "progress", "reconciles"),
        *("failures", "shares", "changed", "silent_s", "rows", "polled"),
        *("latency_ms", "repairs", "pace", "seen"),
    }
)


def health(problems: Collection[Mapping[str, Any]], *, ready: bool) -> str:
    """Return the word; PROBLEMS are those of the report."""
    if not ready:
        return NOT_READY
    if any(problem["cuts_service"] for problem in problems):
        return DEGRADED
    return WITH_PROBLEMS if problems else HEALTHY


def version_of(report: Mapping[str, Any]) -> str:
    """Return what changes with REPORT, unless only its numbers move."""
    text = json.dumps(_lasting(report), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lasting(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _lasting(each)
            for key, each in value.items()
            if key not in _VOLATILE
        }
    return [*map(_lasting, value)] if isinstance(value, list) else value
