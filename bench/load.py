"""Load from inside an instance's namespace, by wrk."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from types import MappingProxyType

from sandbox import Instance

URL = "http://169.254.169.254/latest/meta-data/instance-id"

# Runs once, when all is over: requests themselves are wrk's own.
_TRIES = 5
_SCRIPT = """\
done = function(summary, latency, requests)
  local e, seen = summary.errors, {}
  for i = 1, 999 do
    local p = i / 10
    if i % 10 == 0 or p > 99 then
      seen[#seen + 1] = string.format('[%g, %.3f]',
        p, latency:percentile(p) / 1e3)
    end
  end
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %.6f, "refused": %d, ' ..
    '"failed": %d, "p50_ms": %.3f, "p99_ms": %.3f, "percentiles": [%s]}\\n',
    summary.requests, summary.duration / 1e6,
    e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    table.concat(seen, ', ')))
end
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw."""

    requests: int  # answered, whatever the status
    seconds: float
    refused: int  # answered by 4xx or 5xx
    failed: int  # not answered: connection lost, timeout
    p50_ms: float
    p99_ms: float
    percentiles: list[tuple[float, float]]  # percent, ms
    cpu_ms: float = 0.0  # of those who answer, for each; 0: not measured

    @property
    def rate(self) -> float:
        """Answers per second, refusals among them."""
        return self.requests / self.seconds

    @property
    def good_rate(self) -> float:
        """Good answers per second."""
        return (self.requests - self.refused) / self.seconds

    @property
    def error_percent(self) -> float:
        """Part of what was tried that got no good answer."""
        tried = self.requests + self.failed
        return 100 * (self.refused + self.failed) / max(1, tried)


def measure(
    instance: Instance,
    *,
    connections: int,
    seconds: float,
    url: str = URL,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """Ask from INSTANCE for URL with HEADERS, over CONNECTIONS, for SECONDS.

    Again if nothing was answered: there is no ratio to that, and a machine
    that does other work may need longer for the first answer.
    """
    for _ in range(_TRIES):
        made = _measure(instance, connections, seconds, url, headers)
        if made.requests:
            break
    return made


def _measure(
    instance: Instance,
    connections: int,
    seconds: float,
    url: str,
    headers: Mapping[str, str],
) -> Load:
    sent = [
        word for each in headers.items() for word in ("-H", ": ".join(each))
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT)
        script.flush()
        text = instance.execute(
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"),
            *("--timeout", "10s", "-s", script.name, *sent, url),
            timeout_s=seconds + 30,
        )
    return Load(**json.loads(text.strip().splitlines()[-1]))
