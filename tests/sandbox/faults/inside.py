"""The network's namespace: addresses, sysctls, neighbours, firewalls."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Iterator

from .. import namespaces
from .scene import Scene
from .table import fault

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17


@fault("209", cuts=False, heals=True)
def namespace_deleted(scene: Scene) -> Iterator[None]:
    """Its name is gone; its haproxy still lives there and serves."""
    namespaces.lose(scene.network.namespace)
    yield
    scene.resync()


@fault("209", heals=True, slow=True)
def metadata_address_removed(scene: Scene) -> Iterator[None]:
    """169.254.169.254 is no address of the namespace."""
    scene.ip("address", "del", "169.254.169.254/32", "dev", scene.inner)
    yield
    scene.resync()


@fault("209", heals=True)
def localport_address_removed(scene: Scene) -> Iterator[None]:
    """The localport's own address, the route's next hop, is gone."""
    address = f"{scene.network.metadata.ip4}/24"
    scene.ip("address", "del", address, "dev", scene.inner)
    scene.forget_neighbours()
    yield
    scene.resync()


@fault("209", heals=True, slow=True)
def routes_flushed(scene: Scene) -> Iterator[None]:
    """Somebody flushed the routes; the addresses are still there."""
    scene.ip("route", "flush", "table", "main")
    yield
    scene.resync()


@fault("209", cuts=False, heals=True)
def answers_no_arp(scene: Scene) -> Iterator[None]:
    """A sysctl keeps the namespace from answering who has an address."""
    scene.sysctl("net.ipv4.conf.all.arp_ignore", "8")
    scene.forget_neighbours()
    yield
    scene.resync()


@fault("209", cuts=False, heals=True)
def reverse_path_filter(scene: Scene) -> Iterator[None]:
    """rp_filter is strict: it may drop what comes from odd sources."""
    scene.sysctl("net.ipv4.conf.all.rp_filter", "1")
    yield
    scene.resync()


@fault("209", cuts=False, heals=True)
def privileged_ports(scene: Scene) -> Iterator[None]:
    """Port 80 is root's: nobody else may bind it from now on."""
    scene.sysctl("net.ipv4.ip_unprivileged_port_start", "1024")
    yield
    scene.resync()


@fault("209", heals=True, ipv6=True)
def ipv6_disabled(scene: Scene) -> Iterator[None]:
    """The namespace has no IPv6 any more."""
    scene.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
    yield
    scene.resync()


@fault("209", heals=True)
def neighbour_wrong(scene: Scene) -> Iterator[None]:
    """Answers to the instance go to another MAC."""
    entry = (scene.address, "lladdr", "02:00:00:00:00:01")
    where = ("dev", scene.inner, "nud", "permanent")
    scene.ip("neighbour", "replace", *entry, *where)
    yield
    scene.resync()


@fault("209", cuts=False, heals=True, slow=True)
def neighbour_removed(scene: Scene) -> Iterator[None]:
    """The instance has no entry: its MAC has to be asked for."""
    scene.ip("neighbour", "del", scene.address, "dev", scene.inner)
    yield
    scene.resync()


@fault("209", "306", slow=True)
def firewall_in_the_namespace(scene: Scene) -> Iterator[None]:
    """A rule in the namespace drops requests."""
    rule = ("INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    scene.inside("iptables", "-A", *rule)
    yield
    scene.inside("iptables", "-D", *rule)


@fault("209", "306", slow=True)
def firewall_drops_answers(scene: Scene) -> Iterator[None]:
    """A rule in the namespace drops answers."""
    rule = ("OUTPUT", "-p", "tcp", "--sport", "80", "-j", "DROP")
    scene.inside("iptables", "-A", *rule)
    yield
    scene.inside("iptables", "-D", *rule)


@fault("209", "306", host=False)
def route_that_swallows_answers(scene: Scene) -> Iterator[None]:
    """A route in the namespace leads answers nowhere."""
    scene.ip("route", "add", "blackhole", f"{scene.address}/32")
    yield
    scene.ip("route", "del", "blackhole", f"{scene.address}/32")


@fault("209", "306", slow=True, host=False)
def rule_that_prohibits_answers(scene: Scene) -> Iterator[None]:
    """A routing rule in the namespace prohibits answers."""
    rule = ("to", f"{scene.address}/32", "prohibit", "priority", "10")
    scene.ip("rule", "add", *rule)
    yield
    scene.ip("rule", "del", *rule)


@fault("209", heals=True, slow=True)
def mac_changed(scene: Scene) -> Iterator[None]:
    """The inner end has another MAC than the localport."""
    scene.ip("link", "set", scene.inner, "address", "02:00:00:00:00:02")
    scene.forget_neighbours()
    yield
    scene.resync()


@fault("209", heals=True, slow=True)
def checksums_offloaded(scene: Scene) -> Iterator[None]:
    """Packets leave without checksums, which OVS's userspace drops."""
    value = array.array("I", (_ETHTOOL_STXCSUM, 1))
    name = scene.inner.encode()
    request = struct.pack("16sP", name, value.buffer_info()[0])
    with (
        namespaces.inside(scene.network.namespace),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control,
    ):
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    yield
    scene.resync()


@fault("209", host=False, slow=True)
def link_with_a_narrower_route(scene: Scene) -> Iterator[None]:
    """Another link in the namespace takes the answers to the instance."""
    peer = ("type", "veth", "peer", "name", "other1")
    scene.ip("link", "add", "other0", *peer)
    scene.ip("link", "set", "other0", "up")
    scene.ip("link", "set", "other1", "up")
    scene.ip("address", "add", f"{scene.address}/31", "dev", "other0")
    yield
    scene.ip("link", "del", "other0")


@fault("209", cuts=False, host=False, slow=True)
def filter_in_the_namespace(scene: Scene) -> Iterator[None]:
    """Filters of traffic control look at all that comes in.

    What they do there can't be tried: the kernel of the tests has none.
    """
    scene.inside("tc", "qdisc", "add", "dev", scene.inner, "clsact")
    yield
    scene.inside("tc", "qdisc", "del", "dev", scene.inner, "clsact")


@fault("209", "306", slow=True)
def chain_that_drops_the_rest(scene: Scene) -> Iterator[None]:
    """A chain of the firewall drops all, without any rule."""
    scene.inside("iptables", "-P", "INPUT", "DROP")
    yield
    scene.inside("iptables", "-P", "INPUT", "ACCEPT")
