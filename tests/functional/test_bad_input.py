"""Rows that can't be used, and databases that are not there."""

from __future__ import annotations

import re
import signal
import socket
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from sandbox import Network, Port, Sandbox, wait_for
from sandbox.case import Case, Host, wait_served
from sandbox.ovsdb import (
    by_uuid,
    insert,
    to_map,
    to_set,
    to_uuid,
    update,
)
from sandbox.processes import processes, send_signal, sole


class Southbound:
    """Writes Port_Bindings past northd, which is stopped for it."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.sb = box.ovn.sb
        where = [["name", "==", box.ovn.system_id]]
        (chassis,) = self.sb.select("Chassis", where, ["_uuid"])
        self.chassis = chassis["_uuid"]
        self.key = 1000

    def datapath(self, network: Network) -> str:
        name = to_map({"name": network.switch})
        where = [["external_ids", "includes", name]]
        (row,) = self.sb.select("Datapath_Binding", where, ["_uuid"])
        return str(row["_uuid"])

    def new_datapath(self, ids: dict[str, str]) -> str:
        self.key += 1
        row = {"tunnel_key": self.key, "external_ids": to_map(ids)}
        (made,) = self.sb.transact([insert("Datapath_Binding", row)])
        return str(made["uuid"][1])

    def bind(
        self,
        datapath: str,
        mac: list[str],
        *,
        ids: dict[str, str] | None = None,
        name: str = "",
    ) -> str:
        """Bind a port to this chassis with MAC as it is; return its name."""
        name = name or str(uuid.uuid4())
        self.key += 1
        given = {
            "neutron:device_id": str(uuid.uuid4()),
            "neutron:device_owner": "compute:nova",
            "neutron:project_id": "p",
            **(ids or {}),
        }
        row = {
            "logical_port": name,
            "datapath": to_uuid(datapath),
            "tunnel_key": self.key,
            "chassis": to_uuid(self.chassis),
            "mac": to_set(mac),
            "external_ids": to_map(given),
        }
        self.sb.transact([insert("Port_Binding", row)])
        return name


@pytest.fixture(scope="module")
def alone(host: Host) -> Sandbox:
    """Provide one good network, and no northd to mend the rows."""
    box = host.sandbox()
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("good")
    first, second = (
        box.neutron.create_port(network, name=name) for name in ("a", "b")
    )
    for instance in box.plug([first, second]):
        wait_served(instance)
    box.ovn.stop("northd")
    # It would release ports that it has no interface for.
    box.ovn.freeze("ovn-controller")
    return box


@pytest.fixture(scope="module")
def southbound(alone: Sandbox) -> Southbound:
    return Southbound(alone)


def warnings(box: Sandbox, name: str) -> list[str]:
    """Return the lines of the log that name NAME and are no mere notes."""
    return [
        line
        for line in box.agent.log().splitlines()
        if name in line and (" WARNING " in line or " ERROR " in line)
    ]


def skipped_once(box: Sandbox, name: str) -> str:
    """Wait for the warning that names NAME; it must be the only one."""
    wait_for(
        lambda: warnings(box, name), timeout_s=60, what=f"warning of {name}"
    )
    for instance in box.instances:
        assert instance.fetch().text == instance.instance_id
    wait_for(
        lambda: name in box.agent.status().stdout,
        timeout_s=60,
        what=f"agent-status that names {name}",
    )
    (line,) = warnings(box, name)
    assert "Traceback" not in box.agent.log()
    return line


@pytest.mark.parametrize(
    "mac",
    [
        pytest.param([], id="no MAC"),
        pytest.param(["unknown"], id="unknown alone"),
        pytest.param(["nonsense"], id="no MAC address"),
        pytest.param(["fa:16:3e:00:00:zz 10.10.0.77"], id="bad digits"),
        pytest.param(["ff:ff:ff:ff:ff:ff 10.10.0.78"], id="broadcast MAC"),
        pytest.param([""], id="empty entry"),
        pytest.param(["\n|\\\"' ${x}"], id="letters that could break a file"),
        pytest.param(["x" * 100_000], id="very long"),
    ],
)
def test_port_without_a_usable_mac_is_skipped(southbound, mac):
    """One warning that names it; the network's others are served."""
    box = southbound.box
    network = next(iter(box.neutron.networks.values()))
    name = southbound.bind(southbound.datapath(network), mac)
    line = skipped_once(box, name)
    assert len(line) < 600


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("10.10.0.777", id="bad address"),
        pytest.param("10.10.0.0/24", id="a CIDR"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("169.254.169.254", id="our own address"),
        pytest.param("x" * 100_000, id="very long"),
        pytest.param(" ".join(map(str, range(5000))), id="very many"),
    ],
)
def test_bad_address_of_a_port_is_left_out(southbound, address):
    """One warning that names it; the network's others are served."""
    box = southbound.box
    network = next(iter(box.neutron.networks.values()))
    mac = [f"fa:16:3e:00:01:{southbound.key % 256:02x} {address}"]
    name = southbound.bind(southbound.datapath(network), mac)
    line = skipped_once(box, name)
    assert "an address is left out" in line
    assert len(line) < 600


def test_port_with_a_strange_device_id_is_skipped(southbound):
    """It would go into a map file and a header."""
    box = southbound.box
    network = next(iter(box.neutron.networks.values()))
    name = southbound.bind(
        southbound.datapath(network),
        ["fa:16:3e:00:00:79 10.10.0.79"],
        ids={"neutron:device_id": "a|b\r\nX-Evil: 1"},
    )
    skipped_once(box, name)


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param({}, id="no name"),
        pytest.param({"name": ""}, id="empty name"),
        pytest.param({"name": "neutron-"}, id="no uuid"),
        pytest.param({"name": "neutron-../../etc/passwd"}, id="a path"),
        pytest.param({"name": "somebody's switch"}, id="not Neutron's"),
    ],
)
def test_port_of_a_nameless_datapath_is_skipped(southbound, ids):
    datapath = southbound.new_datapath(ids)
    name = southbound.bind(datapath, ["fa:16:3e:00:00:80 10.10.0.80"])
    skipped_once(southbound.box, name)


@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
def test_bad_port_alone_on_its_network_is_skipped(southbound, named):
    """Its network is known by the port itself, or by the datapath only."""
    name = f"neutron-{uuid.uuid4()}"
    datapath = southbound.new_datapath({"name": name, "logical-switch": "x"})
    ids = {"neutron:network_name": name} if named else {}
    skipped_once(southbound.box, southbound.bind(datapath, ["bad"], ids=ids))


def test_no_warning_is_ever_repeated(southbound):
    """Over a while, with all the bad ports of the tests above there."""
    box = southbound.box
    over = time.monotonic() + 2
    wait_for(lambda: time.monotonic() > over, timeout_s=20, what="a while")
    named = re.findall(r"port '([^']+)'(?: skipped|, an)", box.agent.log())
    repeated = {n: c for n, c in Counter(named).items() if c > 1}
    assert not repeated


def test_good_port_with_unknown_beside_it_is_served(box, case: Case):
    """["MAC IP", "unknown"], as Neutron writes without port security."""
    network = case.network("n")
    port = box.neutron.create_port(network, port_security=False)
    (instance,) = case.plug([port])
    assert instance.fetch().text == instance.instance_id


def test_skipped_port_is_served_once_it_is_good(box, case: Case):
    """And the warning is not repeated, whatever else happens meanwhile."""
    network = case.network("n")
    good, other = (
        box.neutron.create_port(network, name=name) for name in ("g", "h")
    )
    (instance,) = case.plug([good])
    port = box.neutron.create_port(network, name="late")
    late = box.plug([port])[0]
    wait_served(late)
    box.ovn.freeze("northd")  # or it would mend the row
    try:
        damage(box, port, "garbage")
        wait_for(
            lambda: warnings(box, port.id), timeout_s=60, what="the warning"
        )
        wait_for(
            lambda: late.fetch().status == 404, timeout_s=60, what="404 for it"
        )
        case.plug([other])  # rows change, it stays bad
        assert instance.fetch().text == instance.instance_id
        assert len(warnings(box, port.id)) == 1
        damage(box, port, port.addresses)
        wait_served(late)
    finally:
        box.ovn.thaw("northd")


def test_bad_addresses_among_good_ones_are_left_out(box, case: Case):
    """With one warning; from the others the instance is served on."""
    instance = case.instance(case.network("n"))
    port = instance.port
    box.ovn.freeze("northd")
    try:
        damage(box, port, f"{port.addresses} 10.0.0.0/24 169.254.169.254")
        wait_for(
            lambda: warnings(box, port.id), timeout_s=60, what="the warning"
        )
        wait_served(instance)
        (line,) = warnings(box, port.id)
        assert "10.0.0.0/24" in line
        assert "1 more" in line
        wait_for(
            lambda: port.id in box.agent.status().stdout,
            timeout_s=60,
            what="agent-status that names it",
        )
    finally:
        box.ovn.thaw("northd")


def damage(box: Sandbox, port: Port, addresses: str) -> None:
    """Write ADDRESSES into the port's Port_Binding, past northd."""
    where = [["logical_port", "==", port.id]]
    (row,) = box.ovn.sb.select("Port_Binding", where, ["_uuid"])
    box.ovn.sb.transact(
        [
            update(
                "Port_Binding",
                by_uuid(row["_uuid"]),
                {"mac": to_set([addresses])},
            )
        ]
    )


# ------------------------------------------------ databases not there yet


@pytest.mark.parametrize(
    ("daemon", "said"),
    [("ovsdb-server", "Open vSwitch"), ("sb", "OVN Southbound")],
)
def test_database_not_there_at_start_is_waited_for(own_box, daemon, said):
    """Said once, in the log and by agent-status (exit code 2); then served."""
    box = own_box
    network = box.neutron.create_network("n")
    port = box.neutron.create_port(network)
    (instance,) = box.plug([port])
    box.ovn.stop(daemon)
    box.agent.start()

    def waits() -> bool:
        status = box.agent.status()
        return status.returncode == 2 and said in status.stdout

    wait_for(waits, timeout_s=60, what=f"agent-status that names {said}")
    # It names it before the first try is over.
    wait_for(
        lambda: said in box.agent.log(), timeout_s=60, what=f"word of {said}"
    )
    retried = time.monotonic() + 2.5  # at least one more try
    wait_for(
        lambda: time.monotonic() > retried and waits(),
        timeout_s=60,
        what="another try",
    )
    assert box.agent.running
    named = [line for line in box.agent.log().splitlines() if said in line]
    assert len(named) == 1, named
    assert "WARNING" in named[0]
    box.ovn.start(daemon)
    box.agent.wait_ready(timeout_s=90)
    wait_served(instance)


def test_metadata_port_in_use_stays_at_a_restart(own_box):
    """Of two, DHCP gave instances the route by the address of one."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)], dhcp=True)
    wait_served(instance)
    second = box.neutron.add_metadata_port(network)
    said = f"metadata port {second.id!r} skipped: network {network.id}"
    for restart in (False, True):
        if restart:
            box.agent.stop()
            box.agent.start()
            box.agent.wait_ready()
        wait_for(
            lambda: said in box.agent.status().stdout,
            timeout_s=60,
            what="word of the second one",
        )
        wait_served(instance)
        # The agent asks Southbound for other rows then.
        other = box.neutron.create_network("other")
        wait_served(*box.plug([box.neutron.create_port(other)]))
        assert said in box.agent.status().stdout
    (late,) = box.plug([box.neutron.create_port(network)], dhcp=True)
    wait_served(late)
    where = ("Interface", f"tap{network.id[:10]}0", "external_ids:iface-id")
    assert network.metadata.id in box.ovn.vsctl("get", *where)


def test_fleet_is_kept_while_southbound_is_waited_for(own_box):
    """What is served needs no database, so it is served on."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance)
    box.agent.stop()
    box.ovn.stop("sb")
    box.agent.start()
    wait_for(
        lambda: "OVN Southbound" in box.agent.status().stdout,
        timeout_s=60,
        what="the agent that waits",
    )
    for process in (sole("supervisord"), *processes("haproxy")):
        send_signal(process.pid, signal.SIGKILL)
    wait_served(instance, timeout_s=60)
    box.ovn.stop("ovsdb-server")
    wait_for(
        lambda: "OVNMD-102" in box.agent.status().stdout,
        timeout_s=60,
        what="word of Open vSwitch's database",
    )
    for daemon in ("ovsdb-server", "sb"):
        box.ovn.start(daemon)
    box.agent.wait_ready(timeout_s=90)


def test_database_that_hangs_at_start_is_waited_for(own_box):
    """The port is open, nobody answers: agent-status still does."""
    box = own_box
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    box.ovn.freeze("sb")
    try:
        box.agent.start()
        wait_for(
            lambda: box.agent.status().returncode == 2,
            timeout_s=60,
            what="agent-status with exit code 2",
        )
    finally:
        box.ovn.thaw("sb")
    box.agent.wait_ready(timeout_s=90)
    wait_served(instance)


def test_database_that_is_closed_to_the_agent_is_named(own_box):
    """Open vSwitch's own socket is root's alone, in most packages."""
    box = own_box
    path = "/run/closed.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        Path(path).chmod(0o700)
        box.agent.configure({("ovs", "ovsdb_connection"): f"unix:{path}"})
        box.agent.start()
        wait_for(
            lambda: "ovs-vsctl set-manager" in box.agent.status().stdout,
            timeout_s=60,
            what="the remedy in agent-status",
        )
    assert box.agent.status().returncode == 2


def test_system_id_not_there_is_waited_for(own_box):
    """ovn-controller needs it too; said once, served once it is there."""
    box = own_box
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    box.ovn.vsctl("remove", "Open_vSwitch", ".", "external_ids", "system-id")
    box.agent.start()
    wait_for(
        lambda: (
            "system-id" in box.agent.status().stdout
            and box.agent.status().returncode == 2
        ),
        timeout_s=60,
        what="agent-status that names system-id",
    )
    value = f"external_ids:system-id={box.ovn.system_id}"
    box.ovn.vsctl("set", "Open_vSwitch", ".", value)
    box.agent.wait_ready(timeout_s=90)
    wait_served(instance)
    lines = [ln for ln in box.agent.log().splitlines() if "system-id" in ln]
    assert len([line for line in lines if "WARNING" in line]) == 1


def test_bridge_not_there_is_named_and_waited_for(own_box):
    """No integration bridge yet: said so, and healed by itself."""
    box = own_box
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    box.ovn.freeze("ovn-controller")  # it would create the bridge
    setting = "external_ids:ovn-bridge"
    box.ovn.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"{setting}=br-x")
    box.agent.start()
    wait_for(
        lambda: "br-x" in box.agent.status().stdout,
        timeout_s=60,
        what="agent-status that names br-x",
    )
    box.ovn.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"{setting}=br-int")
    box.ovn.thaw("ovn-controller")
    wait_served(instance)


def test_agent_status_without_an_agent_says_so(own_box):
    """Exit code 1, one line, no traceback."""
    own_box.agent.configure()
    said = own_box.agent.status()
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 1
    assert "does not answer" in said.stderr


def test_agent_status_socket_survives_odd_callers(own_box):
    """Callers that hang up or never read disturb nobody."""
    own_box.agent.start()
    own_box.agent.wait_ready()
    wait_for(
        lambda: own_box.agent.status().returncode == 0,
        timeout_s=60,
        what="an agent without problems",
    )
    path = "/var/lib/neutron/ovn-metadata-agent.sock"
    held = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for link in held:
        link.connect(path)
    for link in held[::2]:
        link.close()
    assert own_box.agent.status().returncode == 0
    for link in held[1::2]:
        link.close()
    assert "Traceback" not in own_box.agent.log()
