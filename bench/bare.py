"""A bare haproxy beside ours: what our two and their rules cost.

It listens in the network's namespace, as ours does, and asks Nova at once. It
has the rules that set the instance's identity, and no other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from sandbox import Instance, Sandbox, model, processes, wait_for

from . import load, memory
from .report import Report, progress, sized

CONNECTIONS = (1, 16)
_PORT = 8081
_SECONDS = sized(4.0, 1.0)  # whole ones, for wrk
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_BODY = 1 << 20
_BODY_CONNECTIONS = 4
_BODY_PATH = "/openstack/latest/user_data"
_PATH = "/latest/meta-data/instance-id"
_CONFIG = """\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend instance
    bind {address}:{port} namespace ovnmeta-{network}
    default_backend nova
backend nova
    http-reuse always
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Instance-ID {instance}
    http-request set-header X-Tenant-ID {project}
    http-request set-header X-Instance-ID-Signature {signature}
    server nova {nova}:{nova_port}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One measurement of ours, and the same of the bare haproxy's."""

    what: str
    ours: float
    bare: float


def measure(box: Sandbox, instance: Instance) -> list[Pair]:
    """Measure both in turn, from INSTANCE; our agent runs."""
    ours = [each.pid for each in processes.processes("haproxy")]
    body = os.urandom(_BODY // 2).hex().encode()
    port = instance.port
    box.nova.register(port.device_id, port.project_id, user_data=body)
    pairs: list[Pair] = []
    with _running(box, instance) as bare:
        cases = [(count, _PATH) for count in CONNECTIONS]
        for count, path in (*cases, (_BODY_CONNECTIONS, _BODY_PATH)):
            mine, my_s = _load(instance, 80, path, count, ours)
            other, other_s = _load(instance, _PORT, path, count, [bare])
            what = "of 1 MiB" if path == _BODY_PATH else "of some bytes"
            name = f"{count} connections, answers {what}"
            pairs += [
                Pair(f"{name}: each second", mine.good_rate, other.good_rate),
                Pair(f"{name}: CPU, ms each", my_s, other_s),
            ]
            progress(f"{pairs[-2]}")
    return pairs


def summarize(report: Report, rounds: Sequence[Sequence[Pair]]) -> None:
    """Add the medians of ROUNDS to REPORT."""
    for row in zip(*rounds, strict=True):
        ratios = [pair.ours / pair.bare for pair in row]
        report.row(
            f"{row[0].what} (theirs: a bare haproxy's)",
            statistics.median(pair.ours for pair in row),
            statistics.median(pair.bare for pair in row),
            statistics.median(ratios),
            " ".join(f"{ratio:.2f}" for ratio in ratios),
        )


def _load(
    instance: Instance, port: int, path: str, count: int, pids: Iterable[int]
) -> tuple[load.Load, float]:
    """Return what wrk saw, and the ms of CPU that PIDS took for each."""
    pids = [*pids]
    url = f"http://{model.METADATA_V4}:{port}{path}"
    before = memory.cpu_s(pids)
    seen = load.measure(instance, connections=count, seconds=_SECONDS, url=url)
    # On a busy machine it may have had less than the clock's tick.
    took_s = max(_TICK_S, memory.cpu_s(pids) - before)
    return seen, 1000 * took_s / max(1, seen.requests)


@contextlib.contextmanager
def _running(box: Sandbox, instance: Instance) -> Iterator[int]:
    """Have the bare haproxy run; give its process id."""
    port = instance.port
    file = box.folder / "bare.conf"
    file.write_text(
        _CONFIG.format(
            address=model.METADATA_V4,
            port=_PORT,
            network=port.network.id,
            instance=port.device_id,
            project=port.project_id,
            signature=box.nova.signature(port.device_id),
            nova=box.nova.address,
            nova_port=box.nova.port,
        )
    )

    def answers() -> bool:
        try:
            instance.connect(port=_PORT).close()
        except OSError:
            return False
        return True

    with subprocess.Popen(
        ["/usr/sbin/haproxy", "-db", "-f", str(file)]
    ) as process:
        try:
            wait_for(answers, timeout_s=20, what="the bare haproxy")
            yield process.pid
        finally:
            process.terminate()
