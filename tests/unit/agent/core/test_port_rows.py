"""Rows -> values: what Neutron writes, and what nobody should have."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from ovn_metadata.agent.core import port_rows
from ovn_metadata.agent.core.monitoring import (
    Clause,
    LocalNetwork,
    chassis_clause,
    localport_clause,
)
from ovn_metadata.agent.core.port_rows import PortRow
from ovn_metadata.agent.model import ChassisSnapshot

# What a real Neutron 29 wrote.
CHASSIS = uuid.UUID("45658dcb-a236-4029-81c5-1f9427b9b350")
ISO = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
LATE = "41a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
PROJECT = "7c1a0d5e9b3f4a62a1d0c3b2e4f50617"


def switch(network: str) -> dict[str, str]:
    return {"logical-switch": network, "name": f"neutron-{network}"}


VM_ISO = PortRow(
    logical_port="4e557789-fcd7-40ca-a5ac-7eea27c246fb",
    type="",
    mac=["fa:16:3e:af:19:7c 10.10.0.50 fd00:10::f816:3eff:feaf:197c"],
    external_ids={
        "neutron:device_id": "10000000-0000-4000-8000-000000000001",
        "neutron:device_owner": "compute:nova",
        "neutron:mtu": "",
        "neutron:network_name": f"neutron-{ISO}",
        "neutron:project_id": PROJECT,
    },
    datapath=uuid.UUID("7f27c9ac-88f9-4d76-8829-de178803baaf"),
    datapath_ids=switch(ISO),
    chassis=CHASSIS,
)
LOCALPORT_ISO = PortRow(
    logical_port="5e31beaf-ccaf-41b6-8cf9-4352635a79c3",
    type="localport",
    mac=["fa:16:3e:0e:b3:8c 10.10.0.1 fd00:10::f816:3eff:fe0e:b38c"],
    external_ids={
        "neutron:cidrs": "10.10.0.1/24 fd00:10::f816:3eff:fe0e:b38c/64",
        "neutron:device_id": f"ovnmeta-{ISO}",
        "neutron:device_owner": "network:distributed",
        "neutron:mtu": "1442",
    },
    datapath=VM_ISO.datapath,
    datapath_ids=switch(ISO),
)
VM_LATE = dataclasses.replace(
    VM_ISO,
    logical_port="f8461c90-5ede-463c-a57e-eeff31c36c42",
    mac=["fa:16:3e:ed:2b:13 10.30.0.50"],
    datapath=uuid.UUID("6baef119-17a3-4d9b-b40a-9ca895b3b69d"),
    datapath_ids=switch(LATE),
)


ELSEWHERE = uuid.UUID(int=1)
REQUESTED = {"chassis": None, "requested_chassis": CHASSIS}


def with_ids(row: PortRow, **ids: str) -> PortRow:
    """Return ROW with some of `neutron:...`."""
    more = {f"neutron:{key}": value for key, value in ids.items()}
    return dataclasses.replace(row, external_ids={**row.external_ids, **more})


def snapshot_of(
    *found: PortRow, answered: tuple[Clause | None, ...] = ()
) -> tuple[ChassisSnapshot, list[LocalNetwork]]:
    return port_rows.chassis_snapshot(
        found,
        chassis=CHASSIS,
        answered=[chassis_clause(CHASSIS), *filter(None, answered)],
    )


@pytest.mark.parametrize(
    ("datapath_ids", "network_name", "expected"),
    [
        pytest.param(None, "", None, id="nothing known"),
        pytest.param({}, "public", None, id="not Neutron's"),
        pytest.param({}, "neutron-", None, id="no id"),
        pytest.param({}, f"neutron-{ISO}\n", None, id="a newline behind it"),
        pytest.param({}, f"neutron-../{ISO}", None, id="a path"),
        pytest.param(
            {"logical-router": LATE, "name": f"neutron-{LATE}"},
            f"neutron-{ISO}",
            None,
            id="a router's datapath",
        ),
        pytest.param(switch(ISO), "", ISO, id="by the datapath"),
        pytest.param(None, f"neutron-{ISO}", ISO, id="by the port"),
        pytest.param(
            switch(ISO), f"neutron-{LATE}", ISO, id="the datapath decides"
        ),
        pytest.param({}, f"neutron-{ISO.upper()}", ISO, id="in capitals"),
    ],
)
def test_network_of(datapath_ids, network_name, expected):
    row = dataclasses.replace(VM_ISO, datapath_ids=datapath_ids)
    assert (
        port_rows.network_of(with_ids(row, network_name=network_name))
        == expected
    )


@pytest.mark.parametrize(
    ("change", "local"),
    [
        pytest.param({"chassis": None}, False, id="bound to none"),
        pytest.param({"chassis": uuid.UUID(int=1)}, False, id="elsewhere"),
        pytest.param({"type": "localport"}, False, id="a localport"),
        pytest.param({"type": "patch"}, False, id="a router's port"),
        pytest.param({}, True, id="a VIF"),
        pytest.param({"type": "external"}, True, id="SR-IOV or baremetal"),
        pytest.param(
            {
                "chassis": uuid.UUID(int=1),
                "additional_chassis": frozenset({CHASSIS}),
                "requested_additional_chassis": frozenset({CHASSIS}),
            },
            True,
            id="migrating to here",
        ),
        pytest.param(
            REQUESTED
            | {
                "chassis": ELSEWHERE,
                "additional_chassis": frozenset({CHASSIS}),
            },
            True,
            id="about to have migrated to here",
        ),
        pytest.param(
            {
                "chassis": ELSEWHERE,
                "requested_chassis": ELSEWHERE,
                "additional_chassis": frozenset({CHASSIS}),
            },
            False,
            id="its migration to here was aborted",
        ),
        pytest.param(REQUESTED, True, id="requested, not bound"),
        pytest.param(
            REQUESTED | {"chassis": ELSEWHERE},
            True,
            id="requested, bound elsewhere as yet",
        ),
        pytest.param(
            REQUESTED | {"requested_chassis": ELSEWHERE},
            False,
            id="requested elsewhere",
        ),
        pytest.param(
            {"requested_chassis": ELSEWHERE}, True, id="bound, not requested"
        ),
        pytest.param(
            {
                "chassis": ELSEWHERE,
                "requested_chassis": ELSEWHERE,
                "requested_additional_chassis": frozenset({CHASSIS}),
            },
            True,
            id="soon migrating to here",
        ),
        pytest.param(
            REQUESTED | {"type": "external"}, False, id="external, requested"
        ),
        pytest.param(
            REQUESTED | {"type": "virtual"}, False, id="virtual, requested"
        ),
    ],
)
def test_is_local(change, local):
    row = dataclasses.replace(VM_ISO, **change)
    assert port_rows.is_local(row, CHASSIS) == local
    assert not port_rows.is_local(row, None)
    assert not port_rows.is_local(
        dataclasses.replace(row, chassis=None, additional_chassis=frozenset()),
        None,
    )


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        pytest.param({}, True, id="bound"),
        pytest.param(REQUESTED, False, id="requested"),
        pytest.param(
            {
                "chassis": ELSEWHERE,
                "additional_chassis": frozenset({CHASSIS}),
                "requested_additional_chassis": frozenset({CHASSIS}),
            },
            True,
            id="bound here too",
        ),
        pytest.param(
            {
                "chassis": ELSEWHERE,
                "requested_additional_chassis": frozenset({CHASSIS}),
            },
            False,
            id="bound elsewhere, to be bound here too",
        ),
    ],
)
def test_a_port_is_known_as_bound_or_requested(change, bound):
    row = dataclasses.replace(VM_ISO, **change)
    snapshot, asked = snapshot_of(row, LOCALPORT_ISO)
    (port,) = snapshot.networks[ISO].ports
    assert port.bound is bound
    assert asked == [
        LocalNetwork(ISO, VM_ISO.datapath, LOCALPORT_ISO.logical_port)
    ]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("10.0.0.1/33", id="a prefix of 33"),
        pytest.param("x", id="no address"),
        # The daemon refuses these, and with them the whole network.
        pytest.param("fe80::1%x/64", id="an address's scope"),
        pytest.param("224.0.0.1/24", id="multicast"),
        pytest.param("127.0.0.1/8", id="loopback"),
    ],
)
def test_a_bad_address_of_a_localport_is_left_out_and_no_more(bad):
    row = with_ids(LOCALPORT_ISO, cidrs=f"{bad} 10.10.0.1/24")
    localport, left_out = port_rows.parse_localport(row)
    assert [str(cidr) for cidr in localport.cidrs] == ["10.10.0.1/24"]
    assert len(left_out) == 1
    snapshot, _ = snapshot_of(VM_ISO, row)
    assert snapshot.networks[ISO].localport == localport
    assert LOCALPORT_ISO.logical_port in snapshot.problems[0]


@pytest.mark.parametrize(
    ("mtu", "expected"),
    [
        ("1442", 1442),
        ("68", 68),
        ("65535", 65535),
        *(
            (text, 0)
            for text in ("", "67", "65536", "-1442", "1e3", "9" * 999)
        ),
    ],
)
def test_mtu_of_the_localport(mtu, expected):
    localport, _ = port_rows.parse_localport(with_ids(LOCALPORT_ISO, mtu=mtu))
    assert localport.mtu == expected


def test_a_network_as_neutron_wrote_it():
    snapshot, asked = snapshot_of(VM_ISO, LOCALPORT_ISO)
    network = snapshot.networks[ISO]
    assert snapshot.synced
    assert not snapshot.problems
    assert asked == [
        LocalNetwork(ISO, VM_ISO.datapath, LOCALPORT_ISO.logical_port)
    ]
    assert network.complete
    assert network.localport is not None
    assert network.localport.mtu == 1442
    (port,) = network.ports
    assert port.instance == "10000000-0000-4000-8000-000000000001"
    assert port.project == PROJECT
    assert [str(address) for address, _ in port.addresses] == [
        "10.10.0.50",
        "fd00:10::f816:3eff:feaf:197c",
    ]


@pytest.mark.parametrize("stale", ["0000-before", "ffff-after"])
def test_of_two_datapaths_of_a_name_that_with_ports_has_the_localport(stale):
    elsewhere = dataclasses.replace(
        LOCALPORT_ISO,
        logical_port=stale,
        datapath=VM_LATE.datapath,
        datapath_ids=None,
    )
    elsewhere = with_ids(elsewhere, network_name=f"neutron-{ISO}")
    for found in ([LOCALPORT_ISO, elsewhere], [elsewhere, LOCALPORT_ISO]):
        snapshot, asked = snapshot_of(VM_ISO, *found)
        localport = snapshot.networks[ISO].localport
        assert localport is not None
        assert localport.logical_port == LOCALPORT_ISO.logical_port
        assert asked[0].localport == LOCALPORT_ISO.logical_port
        assert stale in snapshot.problems[0]
    # Alone it may hide the right one: that is asked for by its device id.
    _, asked = snapshot_of(VM_ISO, elsewhere)
    assert asked[0].localport is None


def test_an_empty_database_says_nothing_of_what_is_bound():
    snapshot, _ = port_rows.chassis_snapshot(
        [],
        chassis=CHASSIS,
        answered=[chassis_clause(CHASSIS)],
        is_filled=False,
    )
    assert not snapshot.synced


def test_dhcp_off_leaves_a_localport_without_addresses():
    row = dataclasses.replace(
        with_ids(LOCALPORT_ISO, cidrs=""), mac=["fa:16:3e:06:72:75"]
    )
    localport, left_out = port_rows.parse_localport(row)
    assert (localport.cidrs, left_out) == (frozenset(), [])


def test_a_localport_not_seen_is_absent_only_once_the_server_said_so():
    waiting, asked = snapshot_of(VM_ISO)
    assert not waiting.networks[ISO].complete
    assert asked == [LocalNetwork(ISO, VM_ISO.datapath, None)]
    clause = localport_clause(ISO, None)
    told, _ = snapshot_of(VM_ISO, answered=(clause,))
    assert told.networks[ISO].complete
    assert told.networks[ISO].localport is None


def test_a_health_monitors_localport_is_not_the_metadata_port():
    monitor = with_ids(LOCALPORT_ISO, device_owner="ovn-lb-hm:distributed")
    snapshot, _ = snapshot_of(VM_ISO, monitor)
    assert snapshot.networks[ISO].localport is None


def test_a_bad_localport_is_reported_and_still_known_by_name():
    bad = dataclasses.replace(LOCALPORT_ISO, mac=["nonsense"])
    snapshot, asked = snapshot_of(VM_ISO, bad)
    assert snapshot.networks[ISO].localport is None
    assert snapshot.networks[ISO].complete
    assert bad.logical_port in snapshot.problems[0]
    assert asked[0].localport == bad.logical_port


def test_a_datapath_not_seen_yet_is_asked_for_and_no_problem():
    row = dataclasses.replace(
        with_ids(VM_ISO, network_name=""), datapath_ids=None
    )
    snapshot, asked = snapshot_of(row)
    assert not snapshot.networks
    assert not snapshot.problems
    assert asked == [LocalNetwork(None, VM_ISO.datapath, None)]


def test_no_chassis_row_is_not_synced():
    snapshot, asked = port_rows.chassis_snapshot(
        [VM_ISO], chassis=None, answered=[]
    )
    assert (snapshot.synced, snapshot.networks, asked) == (False, {}, [])
    snapshot, _ = port_rows.chassis_snapshot([], chassis=CHASSIS, answered=[])
    assert not snapshot.synced


@pytest.mark.parametrize(
    ("device_id", "parent", "expected"),
    [
        pytest.param("", "gone", "", id="the parent is not here"),
        pytest.param("own", VM_ISO.logical_port, "own", id="it has its own"),
        pytest.param(
            "",
            VM_ISO.logical_port,
            VM_ISO.external_ids["neutron:device_id"],
            id="it gets the parent's, which is in another network",
        ),
    ],
)
def test_the_instance_of_a_subport(device_id, parent, expected):
    subport = dataclasses.replace(
        with_ids(VM_LATE, device_id=device_id), parent_port=parent
    )
    snapshot, _ = snapshot_of(subport, VM_ISO)
    (found,) = snapshot.networks[LATE].ports
    assert found.instance == expected


def test_a_parent_without_a_project_leaves_a_subport_its_own():
    subport = dataclasses.replace(
        with_ids(VM_LATE, device_id="", project_id="own"),
        parent_port=VM_ISO.logical_port,
    )
    ids = {"neutron:device_id": "parents"}
    parent = dataclasses.replace(VM_ISO, external_ids=ids)
    snapshot, _ = snapshot_of(subport, parent)
    (found,) = snapshot.networks[LATE].ports
    assert (found.instance, found.project) == ("parents", "own")


@pytest.mark.parametrize(
    ("mac", "addresses"),
    [
        pytest.param(
            "10.10.0.50 169.254.169.254 10.10.0.51",
            {"10.10.0.50", "10.10.0.51"},
            id="the metadata address",
        ),
        pytest.param("10.10.0.50 10.0.0.0/24", {"10.10.0.50"}, id="a CIDR"),
        pytest.param("10.0.0.0/24 10.1.0.0/24", set(), id="CIDRs alone"),
    ],
)
def test_a_bad_address_of_a_port_is_left_out_and_no_more(mac, addresses):
    row = dataclasses.replace(VM_ISO, mac=[f"fa:16:3e:af:19:7c {mac}"])
    snapshot, _ = snapshot_of(row, LOCALPORT_ISO)
    (port,) = snapshot.networks[ISO].ports
    assert {str(address) for address, _ in port.addresses} == addresses
    (problem,) = snapshot.problems
    assert VM_ISO.logical_port in problem
    assert ("(and 1 more)" in problem) is (not addresses)


def test_ports_of_another_cms_are_one_problem():
    """Kube-OVN and LXD have switches of their own in the same database."""
    datapath = uuid.uuid4()
    pods = [
        dataclasses.replace(
            VM_ISO,
            logical_port=f"pod-{number}",
            datapath=datapath,
            datapath_ids={"name": "ovn-default", "logical-switch": "x"},
            external_ids={"pod": "default/x"},
        )
        for number in range(100)
    ]
    snapshot, _ = snapshot_of(*pods, VM_ISO, LOCALPORT_ISO)
    (problem,) = snapshot.problems
    assert problem == (
        f"100 ports skipped: datapath {datapath} has no name of the form "
        f"neutron-<uuid>"
    )
    assert [*snapshot.networks] == [ISO]
    (alone,) = snapshot_of(pods[7])[0].problems
    assert alone.startswith(f"port 'pod-7' skipped: datapath {datapath} has")


def test_allowed_address_pairs_are_known_apart():
    """As Neutron 29 writes them: the pair's own MAC stands in `mac` too."""
    (own,) = VM_ISO.mac
    row = dataclasses.replace(
        VM_ISO,
        mac=["00:00:5e:00:01:33", own],
        port_security=[
            "00:00:5e:00:01:33 10.10.0.200",
            f"{own} 10.10.0.201 10.10.0.202/32 10.1.0.0/16 169.254.169.254",
        ],
    )
    snapshot, _ = snapshot_of(row, LOCALPORT_ISO)
    (port,) = snapshot.networks[ISO].ports
    assert not snapshot.problems
    assert port.mac == "fa:16:3e:af:19:7c"
    assert [str(address) for address, _ in port.addresses] == own.split()[1:]
    assert {(str(address), mac[-2:]) for address, mac in port.allowed} == {
        ("10.10.0.200", "33"),
        ("10.10.0.201", "7c"),
        ("10.10.0.202", "7c"),
    }


VIRTUAL = dataclasses.replace(
    VM_ISO,
    logical_port="11111111-0000-4000-8000-000000000001",
    type="virtual",
    mac=["fa:16:3e:00:00:aa 10.10.0.100"],
    virtual_parent=VM_ISO.logical_port,
)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        pytest.param({}, ["10.10.0.100"], id="a port here has it"),
        pytest.param({"chassis": None}, [], id="nobody has it"),
        pytest.param({"virtual_parent": "b"}, [], id="a port not here"),
        pytest.param(
            {"datapath": VM_LATE.datapath}, [], id="of another network"
        ),
        pytest.param(
            {"mac": ["fa:16:3e:00:00:aa 169.254.169.254"]},
            [],
            id="the metadata address",
        ),
    ],
)
def test_a_virtual_address_is_its_parents(change, taken):
    virtual = dataclasses.replace(VIRTUAL, **change)
    snapshot, _ = snapshot_of(virtual, VM_ISO, LOCALPORT_ISO)
    (port,) = snapshot.networks[ISO].ports
    assert [str(address) for address in port.virtual] == taken


def test_a_virtual_port_alone_makes_no_network():
    snapshot, asked = snapshot_of(VIRTUAL)
    assert (snapshot.networks, snapshot.problems, asked) == ({}, (), [])


def test_a_metadata_port_of_another_type_is_named():
    row = dataclasses.replace(LOCALPORT_ISO, type="virtual")
    snapshot, _ = snapshot_of(VM_ISO, row)
    assert snapshot.networks[ISO].localport is None
    assert LOCALPORT_ISO.logical_port in snapshot.problems[0]
    assert "allowed_address_pairs" in snapshot.problems[0]


def test_the_order_of_rows_does_not_matter_even_with_two_metadata_ports():
    second = dataclasses.replace(LOCALPORT_ISO, logical_port="a-second-one")
    found = [VM_ISO, VM_LATE, LOCALPORT_ISO, second]
    assert snapshot_of(*found)[0] == snapshot_of(*found[::-1])[0]


def test_of_two_metadata_ports_the_one_in_use_stays():
    second = dataclasses.replace(LOCALPORT_ISO, logical_port="0-sorts-first")
    for plugged in (LOCALPORT_ISO, second):
        name = plugged.logical_port
        snapshot, asked = port_rows.chassis_snapshot(
            [VM_ISO, LOCALPORT_ISO, second],
            chassis=CHASSIS,
            answered=(),
            plugged={name, "another"},
        )
        localport = snapshot.networks[ISO].localport
        assert localport is not None
        assert localport.logical_port == name
        # By its name, the other one would no longer be seen.
        assert [each.localport for each in asked] == [None]
        assert "has another" in snapshot.problems[0]


def test_a_port_on_another_switch_of_that_name_is_not_served():
    """It would have an address of an instance that is reached."""
    stray = dataclasses.replace(
        VM_ISO, logical_port="stray", datapath=VM_LATE.datapath
    )
    snapshot, asked = snapshot_of(VM_ISO, stray, LOCALPORT_ISO)
    ports = snapshot.networks[ISO].ports
    assert [port.logical_port for port in ports] == [VM_ISO.logical_port]
    (problem,) = snapshot.problems
    assert "port 'stray' skipped: it is on another switch than" in problem
    assert not port_rows.is_harmless(problem)
    # Or its row would go, and come back with the next look.
    assert VM_LATE.datapath in {each.datapath for each in asked}


@pytest.mark.parametrize(
    ("mac", "is_harmless"), [(["unknown"], True), ([], False)]
)
def test_a_port_without_a_mac_address_is_skipped(mac, is_harmless):
    """Neutron writes the first: no port security, and no DHCP."""
    bare = dataclasses.replace(VM_ISO, mac=mac)
    (problem,) = snapshot_of(bare, LOCALPORT_ISO)[0].problems
    assert "no MAC address" in problem
    assert port_rows.is_harmless(problem) == is_harmless
    lost = dataclasses.replace(LOCALPORT_ISO, mac=mac)
    (problem,) = snapshot_of(VM_ISO, lost)[0].problems
    assert not port_rows.is_harmless(problem)


def test_two_datapaths_of_one_name_are_both_asked_for():
    """Or the rows of one would go, and come back with the next look."""
    other = dataclasses.replace(
        VM_ISO, logical_port="other", datapath=VM_LATE.datapath
    )
    for found in ([VM_ISO, other], [other, VM_ISO]):
        snapshot, asked = snapshot_of(*found)
        assert {each.datapath for each in asked} == {
            VM_ISO.datapath,
            VM_LATE.datapath,
        }
        assert snapshot == snapshot_of(*found[::-1])[0]


# ----------------------------------------------------- what nobody expects

HOSTILE = [
    "",
    "two words",
    "line\nbreak",
    "i\r\nX-Instance-ID: other",
    "a\tb\x00",
    "'; drop \"\\",
    "$(reboot)",
    "{{7*7}}",
    "%[src]",
    "a|b",
    "ключ \u2028 \x85",
    "x" * 10_240,
]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(with_ids(VM_ISO, device_id=text), id=repr(text)[:20])
        for text in HOSTILE[1:]
    ],
)
def test_a_port_with_a_strange_instance_is_left_out_and_named(bad):
    good = dataclasses.replace(
        VM_ISO, logical_port="good", mac=["fa:16:3e:00:00:07 10.10.0.7"]
    )
    snapshot, _ = snapshot_of(bad, good, LOCALPORT_ISO)
    assert [p.logical_port for p in snapshot.networks[ISO].ports] == ["good"]
    assert bad.logical_port in snapshot.problems[0]


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("blue", "blue"),
        ("", ""),
        ("größe 网络", "größe 网络"),
        ("a\x1b[2Jb\nc\u202e", "a?[2Jb?c?"),
        ("x" * 255, "x" * 80),
    ],
)
def test_names_can_be_printed(written, printed):
    """A project chooses them, and an operator's terminal shows them."""
    datapath_ids = {**switch(ISO), "name2": written}
    row = dataclasses.replace(VM_ISO, datapath_ids=datapath_ids)
    snapshot, _ = snapshot_of(with_ids(row, port_name=written))
    network = snapshot.networks[ISO]
    assert network.name == network.ports[0].name == printed


def test_a_port_has_the_cookie_of_its_flows():
    """It is the first word of the row's uuid."""
    row = dataclasses.replace(
        LOCALPORT_ISO, row=uuid.UUID("acf5f3dc-0000-4000-8000-000000000001")
    )
    snapshot, _ = port_rows.chassis_snapshot(
        [row, VM_ISO], chassis=CHASSIS, answered=[]
    )
    assert snapshot.cookies == {row.logical_port: 0xACF5F3DC}
