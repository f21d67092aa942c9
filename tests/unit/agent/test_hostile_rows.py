"""From hostile rows to files.

The whole way of a network: rows -> snapshot -> what it needs -> haproxy's
configuration and map. Only text in our own forms reaches a file, and no row
changes what another port or another network gets.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ovn_metadata.agent.config.settings import RateLimit
from ovn_metadata.agent.core import port_rows
from ovn_metadata.agent.core.desired import desired_network
from ovn_metadata.agent.core.identity import claimed_addresses
from ovn_metadata.agent.core.monitoring import chassis_clause
from ovn_metadata.agent.core.port_rows import PortRow
from ovn_metadata.agent.haproxy import mapfile
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import render_network
from ovn_metadata.agent.model import ChassisSnapshot, MetadataNetwork
from ovn_metadata.privsep import names

from .config.test_options import DEFAULTS

many_examples = settings(max_examples=2 * settings().max_examples)

CHASSIS = uuid.UUID(int=1)
OURS = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
THEIRS = "41a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
PLACES = Places(Path("/x"), Path("/state"), Path("/pids"))
LIMIT = RateLimit(True, (4, 6), 10, 10, 10, 10)
SETTINGS = dataclasses.replace(DEFAULTS, rate_limit=LIMIT)
SECRET = "made-up-secret"
MAP_LINE = re.compile(
    r"(?P<address>[0-9a-f.:]+) "
    r"[A-Za-z0-9_.:-]+\|[A-Za-z0-9_.:-]*\|[0-9a-f]{64}"
)

NASTY = [
    *("", " ", "/", "../../etc/passwd", "\n", "\r\n", "\0", '"', "'", "\\"),
    *("a b", "a|b|c", "a\n10.10.0.9 x|y|z", "%[src]", "${HOME}", "$(reboot)"),
    *("`reboot`", "{{ x }}", "#", ";", "\x85\u2028\u202e", "é", "\U0001f4a5"),
    *("unknown", "router", "dynamic", "x" * 10_000, "neutron-", "\ud800"),
    *("10.10.0.50", "169.254.169.254", "fe80::a9fe:a9fe", "0.0.0.0/0"),
]
VM_MAC = "fa:16:3e:af:19:7c"
MACS = ["fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "FA:16:3E:00:00:03", VM_MAC]
ADDRESSES = ["10.10.0.50", "10.10.0.9", "10.10.9.9", "fd00:10::50", "::ffff:1"]

nasty = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(), max_size=20)
)


def mostly(*good: str) -> st.SearchStrategy[str]:
    """Draw one of GOOD; one time in twenty anything, or a mix of the two.

    A row with one bad field still makes a port; one with four does not.
    """
    fine = st.sampled_from(good)
    bad = nasty | st.builds(str.__add__, fine, nasty)
    # `one_of` would take each of its branches as often as the others.
    return st.sampled_from(range(20)).flatmap(lambda n: fine if n else bad)


mac_entries = st.builds(
    lambda mac, rest: " ".join([mac, *rest]),
    mostly(*MACS),
    st.lists(mostly(*ADDRESSES), max_size=3),
)
datapaths = st.integers(1, 4).map(lambda number: uuid.UUID(int=number))
names_of_networks = mostly(
    *(f"neutron-{network}" for network in (OURS, THEIRS, OURS.upper()))
)
hostile_rows = st.builds(
    PortRow,
    logical_port=mostly("a", "b", "c", "x", "y", "z"),
    type=mostly("", "", "external", "localport", "virtual"),
    mac=st.lists(mac_entries, min_size=1, max_size=2),
    external_ids=st.fixed_dictionaries(
        {
            "neutron:device_id": mostly("instance", f"ovnmeta-{OURS}"),
            "neutron:device_owner": mostly("", "network:distributed"),
        },
        optional={
            "neutron:project_id": mostly("project"),
            "neutron:network_name": names_of_networks,
            "neutron:cidrs": mostly("10.10.0.1/24"),
            "neutron:mtu": mostly("1442", "0"),
        },
    ),
    datapath=st.none() | datapaths,
    datapath_ids=st.none()
    | st.fixed_dictionaries({"name": names_of_networks})
    | st.fixed_dictionaries(
        {}, optional={"name": names_of_networks, "logical-router": nasty}
    ),
    parent_port=mostly("", "", "", "a", "x"),
    chassis=st.sampled_from([CHASSIS, CHASSIS, None]),
    additional_chassis=st.sampled_from([frozenset(), frozenset({CHASSIS})]),
    requested_chassis=st.sampled_from([CHASSIS, None]),
    requested_additional_chassis=st.sampled_from(
        [frozenset(), frozenset({CHASSIS})]
    ),
    port_security=st.lists(mac_entries, max_size=2),
    virtual_parent=mostly("", "a", "x"),
)


def many(
    strategy: st.SearchStrategy[PortRow],
) -> st.SearchStrategy[list[PortRow]]:
    """Draw rows with different names (Port_Binding has an index of them)."""
    return st.lists(strategy, max_size=4, unique_by=lambda r: r.logical_port)


VM = PortRow(
    logical_port="vm",
    type="",
    mac=[f"{VM_MAC} 10.10.0.50 fd00:10::50"],
    external_ids={
        "neutron:device_id": "10000000-0000-4000-8000-000000000001",
        "neutron:project_id": "7c1a0d5e9b3f4a62a1d0c3b2e4f50617",
    },
    datapath=uuid.UUID(int=9),
    datapath_ids={"name": f"neutron-{OURS}"},
    chassis=CHASSIS,
)
LOCALPORT = PortRow(
    logical_port="localport",
    type="localport",
    mac=["fa:16:3e:0e:b3:8c"],
    external_ids={
        "neutron:cidrs": "10.10.0.1/24 fd00:10::1/64",
        "neutron:device_owner": "network:distributed",
        "neutron:mtu": "1442",
    },
    datapath=VM.datapath,
    datapath_ids=VM.datapath_ids,
)


@dataclasses.dataclass(frozen=True)
class Served:
    """Everything that a network's rows lead to."""

    wanted: MetadataNetwork
    configuration: str
    map: dict[str, str]  # line by line: address -> the whole line


def read(found: Iterable[PortRow]) -> ChassisSnapshot:
    clauses = [chassis_clause(CHASSIS)]
    return port_rows.chassis_snapshot(
        found, chassis=CHASSIS, answered=clauses
    )[0]


def served(snapshot: ChassisSnapshot) -> dict[str, Served]:
    """Return what each network of SNAPSHOT leads to, if it is served."""
    made = {}
    for network, rows in snapshot.networks.items():
        wanted = desired_network(rows)
        if wanted is not None:
            configuration = render_network(
                network,
                places=PLACES,
                settings=SETTINGS,
                ipv6=wanted.has_ipv6,
            ).text
            text = mapfile.render_map(
                mapfile.entries(wanted.instances.items(), SECRET)
            )
            assert text.endswith("\n") or not text
            lines = {line.split(" ")[0]: line for line in text.split("\n")}
            lines.pop("")
            made[network] = Served(wanted, configuration, lines)
    return made


def without_id(configuration: str, network: str) -> list[str]:
    """Return the lines of CONFIGURATION without the names of NETWORK."""
    return [
        line.replace(network, "-").replace(names.inner_veth(network), "-")
        for line in configuration.split("\n")
        if not line.startswith("    description ")
    ]


def of_network(name: str) -> PortRow:
    """Return a good port of a network with the NAME of its switch."""
    return dataclasses.replace(VM, datapath_ids={"name": name})


def of_instance(device_id: str) -> PortRow:
    """Return a good port of the instance DEVICE_ID."""
    return dataclasses.replace(
        VM,
        logical_port="of an instance",
        external_ids={**VM.external_ids, "neutron:device_id": device_id},
    )


BENIGN = served(read([VM, LOCALPORT]))[OURS]


@given(many(hostile_rows))
@example([of_network("neutron-x\n    server evil 10.0.0.1")])
@example([of_network("neutron-../../etc/passwd")])
@example([of_instance("a b\n10.10.0.51 x|y|z")])
@many_examples
def test_nothing_but_our_own_forms_reaches_a_file(found):
    # Every network that a row names has a metadata port.
    beside = [
        dataclasses.replace(
            LOCALPORT,
            logical_port=f"localport-{number}",
            external_ids={
                "neutron:network_name": "",
                **row.external_ids,
                **LOCALPORT.external_ids,
            },
            datapath_ids=row.datapath_ids,
        )
        for number, row in enumerate(found)
    ]
    snapshot = read([*found, *beside, LOCALPORT])
    for network, made in served(snapshot).items():
        assert names.is_network(network)
        benign = without_id(BENIGN.configuration, OURS)
        if not made.wanted.has_ipv6:
            benign = [line for line in benign if "bind fd@4" not in line]
        assert without_id(made.configuration, network) == benign
        for address, line in made.map.items():
            match = MAP_LINE.fullmatch(line)
            assert match, line
            assert match["address"] == address
            assert str(ipaddress.ip_address(address)) == address


@given(many(hostile_rows))
@many_examples
def test_each_bad_row_is_reported_in_one_short_line(found):
    for problem in read([*found, LOCALPORT]).problems:
        assert problem.isprintable()
        assert len(problem) < 400


@given(many(hostile_rows), st.randoms(use_true_random=False))
@many_examples
def test_rows_of_other_networks_change_nothing(found, random):
    others = [
        row
        for row in found
        if port_rows.network_of(row) != OURS
        and row.logical_port not in (VM.logical_port, LOCALPORT.logical_port)
    ]
    mixed = [*others, VM, LOCALPORT]
    random.shuffle(mixed)
    assert served(read(mixed))[OURS] == BENIGN


@given(many(hostile_rows))
@many_examples
def test_ports_beside_it_change_only_the_addresses_they_claim(found):
    # All of them are ports of our network. A second metadata port is not
    # tested here.
    beside = [
        dataclasses.replace(
            row, datapath=VM.datapath, datapath_ids=VM.datapath_ids
        )
        for row in found
        if row.logical_port not in (VM.logical_port, LOCALPORT.logical_port)
        and row.type != "localport"
    ]
    snapshot = read([*beside, VM, LOCALPORT])
    others = [
        port
        for port in snapshot.networks[OURS].ports
        if port.logical_port != VM.logical_port and port.bound
    ]
    # A port that is only requested takes nothing from a bound one. A bound
    # one that may use our MAC could receive our answers, so none is sent.
    # Our fixed address stays ours if another port may use it too, or has it
    # as a virtual port's.
    is_rival = any(VM_MAC in port.macs for port in others)
    claimed = {
        str(address)
        for port in others
        for address in claimed_addresses(port)[0]
    }
    made = served(snapshot)[OURS]
    kept = {
        address: line
        for address, line in BENIGN.map.items()
        if address not in claimed and not is_rival
    }
    assert {
        address: line
        for address, line in made.map.items()
        if address in BENIGN.map
    } == kept
    assert made.wanted.localport == BENIGN.wanted.localport
    assert made.wanted.mac == BENIGN.wanted.mac
    assert made.wanted.addresses >= BENIGN.wanted.addresses


@given(many(hostile_rows), st.randoms(use_true_random=False))
@many_examples
def test_the_order_of_rows_does_not_matter(found, random):
    mixed = [*found, *(row for row in (VM, LOCALPORT) if row not in found)]
    names_ = [row.logical_port for row in mixed]
    assume(len({*names_}) == len(names_))
    before = port_rows.chassis_snapshot(
        mixed, chassis=CHASSIS, answered=[chassis_clause(CHASSIS)]
    )
    random.shuffle(mixed)
    after = port_rows.chassis_snapshot(
        mixed, chassis=CHASSIS, answered=[chassis_clause(CHASSIS)]
    )
    assert after[0] == before[0]
    assert {*after[1]} == {*before[1]}
    assert served(after[0]) == served(before[0])
