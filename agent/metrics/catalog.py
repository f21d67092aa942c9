"""Every metric: its name, type, labels and help.

docs/reference/metrics.md has the same table. At most HOST_SERIES series are
about the host, and NETWORK_SERIES about each network. No label has an
instance, because instances come and go.
"""

import dataclasses
from collections.abc import Iterator

from prometheus_client.core import Metric

HOST_SERIES = 41
NETWORK_SERIES = 15
PREFIX = "ovn_metadata_"
CLASSES = ("2xx", "3xx", "4xx", "5xx", "other")
STATES = ("served", "spare", "failing", "pending")
# The upper bounds of the histograms, in seconds.
BOUNDS = ("0.1", "1.0", "10.0", "+Inf")

# Name, type and labels; the line below is the help.
_TABLE = """
build_info info version python_version haproxy_version
    The versions that run here.
start_time_seconds gauge
    When the agent started, in Unix time.
networks gauge state
    Networks: served; spare, ready without a port; failing; pending.
instances gauge
    Instances that get their metadata on this host.
reconcile_duration_seconds histogram
    How long each reconcile of a network, or of the gateway, took.
provision_duration_seconds histogram
    From the row that asked for a network until it was served.
queue_length gauge
    Networks with changes that are not carried out yet.
queue_oldest_seconds gauge
    How long the first of them has waited; 0 if there is none.
southbound_connected gauge
    Whether OVN Southbound is connected: 1 or 0.
southbound_rows gauge
    Rows of OVN Southbound that the agent holds.
southbound_change_timestamp_seconds gauge
    When a row that concerns this host changed last, in Unix time.
heartbeat_timestamp_seconds gauge
    When Neutron's keys in Chassis_Private were last right, in Unix time.
privsep_calls_total counter
    Calls to the privileged daemon.
privsep_errors_total counter
    Those of these calls that failed.
privsep_seconds_total counter
    How long all these calls took.
repairs_total counter
    Things that others had broken on this host and the agent repaired.
gateway_restarts_total counter
    How often the gateway was started again, also by a reload.
gateway_memory_bytes gauge
    Memory of the gateway that is not from files.
nova_up gauge endpoint
    Whether this endpoint of Nova's metadata API answers: 1 or 0.
nova_response_seconds gauge endpoint
    How long its answers took, on average over the last 1024.
shield_ended_at_hop_limit gauge
    Answers that ended at their hop limit, since the networks were made.
problems gauge code severity
    Problems that exist now, by code: agent-status has their texts.
network_requests_total counter network code
    Answers that instances of the network got, by class of status.
network_not_yet_total counter network
    Those that were 503 because the agent was not sure whose address it was.
network_shield_requests_total counter network reason
    Requests that the shield refused or, before it is enforced, would refuse.
network_response_seconds gauge network
    From a request to the end of its answer, on average over the last 1024.
network_haproxy_restarts_total counter network
    How often the haproxy of the network was started again, also by a reload.
network_haproxy_memory_bytes gauge network
    Memory of its process that is not from files.
network_over_share_instances gauge network
    Instances over their share in the last minute, at most 100.
network_up gauge network
    Whether the last reconcile of the network succeeded: 1 or 0.
network_info info network name
    The name that Neutron has for the network.
"""

# The values of a metric's labels -> its value. A histogram's are "count",
# "sum", or "bucket" and its bound.
Samples = dict[tuple[str, ...], float]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A metric."""

    name: str  # without the prefix
    type: str
    labels: tuple[str, ...]
    help: str

    def metric(self, samples: Samples) -> Metric:
        """Return it with SAMPLES, as prometheus-client takes it."""
        name = PREFIX + self.name
        family = name.removesuffix("_total").removesuffix("_info")
        made = Metric(family, self.help, self.type)
        for values, number in samples.items():
            if self.type == "histogram":
                part, *bound = values
                pairs = dict(zip(("le",), bound, strict=False))
                made.add_sample(f"{name}_{part}", pairs, number)
            else:
                pairs = dict(zip(self.labels, values, strict=True))
                made.add_sample(name, pairs, number)
        return made


def _kinds() -> Iterator[Kind]:
    lines = iter(_TABLE.strip().splitlines())
    for line, text in zip(lines, lines, strict=True):
        name, of_type, *labels = line.split()
        yield Kind(name, of_type, tuple(labels), text.strip())


KINDS = {kind.name: kind for kind in _kinds()}
