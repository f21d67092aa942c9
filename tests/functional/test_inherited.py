"""Whatever sysctls a namespace inherits, its network is served.

It inherits them from the machine, which tests must not change. So a test makes
the namespace, with such values, before the agent needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ovn_metadata.privsep.namespace import sysctls
from sandbox import Instance, Network, Port, Sandbox, namespaces, wait_for
from sandbox.case import Case, wait_noted, wait_served
from sandbox.daemons import run
from sandbox.instances import INNER
from sandbox.sockets import network_status

EVERYTHING = {
    "ipv4/arp_ignore": "8",
    "ipv4/arp_announce": "2",
    "ipv4/arp_filter": "1",
    "ipv4/arp_accept": "1",
    "ipv4/rp_filter": "1",
    "ipv4/forwarding": "1",
    "ipv4/accept_local": "1",
    "ipv4/route_localnet": "1",
    "ipv4/log_martians": "1",
    "ipv4/accept_source_route": "1",
    "ipv6/accept_ra": "2",
    "ipv6/accept_dad": "2",
    "ipv6/dad_transmits": "10",
    "ipv6/forwarding": "1",
    "ipv6/accept_source_route": "1",
    "ipv6/seg6_enabled": "1",
    # Last: nothing of IPv6 can be set after it on older kernels.
    "ipv6/disable_ipv6": "1",
}


def write(network: Network, values: Mapping[str, str], *links: str) -> None:
    """Set VALUES of LINKS (all, default, ...) in the namespace of NETWORK."""
    with namespaces.inside(network.namespace):
        for name, value in values.items():
            family, _, name_only = name.partition("/")
            for link in links:
                folder = Path("/proc/sys/net", family, "conf", link)
                (folder / name_only).write_text(value)


def wrong(network: Network) -> dict[str, str]:
    """Return what is not as the agent sets it in NETWORK's namespace."""
    found = {}
    links = ("all", "default", f"tap{network.id[:10]}1")
    with namespaces.inside(network.namespace):
        for family, values in (("ipv4", sysctls.IPV4), ("ipv6", sysctls.IPV6)):
            for name, value in values.items():
                for link in links:
                    path = Path("/proc/sys/net", family, "conf", link, name)
                    if (now := path.read_text().strip()) != value:
                        found[str(path)] = now
    return found


def reconciles(network: Network) -> int:
    """Return how often NETWORK was found to be, or made, as it should."""
    count: int = network_status(network.id)["reconciles"]
    return count


def pass_over(box: Sandbox, network: Network) -> None:
    """Have the agent of BOX look through all, NETWORK for one."""
    reconciled = reconciles(network)
    box.agent.reload_and_wait()
    wait_for(
        lambda: reconciles(network) > reconciled,
        timeout_s=60,
        what="the pass over all networks",
    )
    box.agent.wait_ready()


def plug_without_route(case: Case, port: Port) -> Instance:
    """Plug PORT; its way to 169.254.169.254 is to ask for it by ARP."""
    (instance,) = case.box.plug([port])
    instance.execute("ip", "route", "replace", "169.254.169.254", "dev", INNER)
    return instance


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"ipv6/disable_ipv6": "1"}, id="no IPv6"),
        pytest.param({"ipv4/arp_ignore": "2"}, id="arp_ignore=2"),
        pytest.param({"ipv4/arp_ignore": "8"}, id="arp_ignore=8"),
        pytest.param(EVERYTHING, id="everything"),
    ],
)
def test_a_namespace_with_the_hosts_sysctls_serves(
    box: Sandbox, case: Case, values: Mapping[str, str]
):
    network = case.network("inherited", "10.10.0.0/24", "fd00:10::/64")
    port = box.neutron.create_port(network)
    run("ip", "netns", "add", network.namespace)
    write(network, values, "all", "default")
    instance = plug_without_route(case, port)
    wait_served(instance)
    wait_served(instance, ipv6=True)
    wait_for(
        lambda: not wrong(network), timeout_s=60, what="the agent's sysctls"
    )


def test_sysctls_that_are_changed_later_are_set_again(
    box: Sandbox, case: Case
):
    network = case.network("changed", "10.10.0.0/24", "fd00:10::/64")
    port = box.neutron.create_port(network)
    instance = plug_without_route(case, port)
    wait_served(instance)
    # Later a change of its rows might be the reason of the visit.
    wait_for(
        lambda: not network_status(network.id)["spare"],
        timeout_s=60,
        what="a bound port",
    )
    wait_noted([network.id])
    mark = box.agent.mark()

    def is_broken() -> bool:
        # The kernel removes the addresses of IPv6.
        write(network, EVERYTHING, "all", "default", f"tap{network.id[:10]}1")
        try:
            instance.fetch(ipv6=True, timeout=0.5)
        except TimeoutError:
            return True
        return False  # a visit had begun before, and has repaired it

    wait_for(is_broken, timeout_s=60, what="a broken network")
    box.agent.reload()
    wait_for(
        lambda: not wrong(network), timeout_s=60, what="the agent's sysctls"
    )
    instance.execute("ip", "neigh", "flush", "dev", INNER)
    wait_served(instance)
    wait_served(instance, ipv6=True)

    def found() -> str:
        lines = box.agent.log(mark).splitlines()
        return str([n for n in lines if f" network={network.id} found: " in n])

    for name in ("arp_ignore", "disable_ipv6"):
        wait_for(
            lambda name=name: f"sysctl {name} changed" in found(),
            timeout_s=60,
            what=f"{name} in the log",
        )
    mark = box.agent.mark()
    pass_over(box, network)
    said = box.agent.log(mark).splitlines()
    # A busy machine may not answer the self-check in time.
    said = [line for line in said if "OVNMD-306" not in line]
    assert not any(f"network={network.id}" in line for line in said)
