"""Which rows are asked for: little, and the same whatever the order."""

from __future__ import annotations

import uuid

import pytest

from ovn_metadata.agent.core import monitoring
from ovn_metadata.agent.core.monitoring import LocalNetwork

CHASSIS = uuid.UUID("45658dcb-a236-4029-81c5-1f9427b9b350")
ISO = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
LATE = "9a1b2c3d-0000-4000-8000-000000000001"
ISO_DATAPATH = uuid.UUID("7f27c9ac-88f9-4d76-8829-de178803baaf")
LATE_DATAPATH = uuid.UUID("6baef119-17a3-4d9b-b40a-9ca895b3b69d")
OURS = ["chassis", "==", ["uuid", str(CHASSIS)]]
REQUESTED = ["requested_chassis", *OURS[1:]]
ALSO_OURS = ["additional_chassis", *OURS[1:]]
ALSO_REQUESTED = ["requested_additional_chassis", *OURS[1:]]
OLD = ("chassis",)
ALL = (
    "chassis",
    "additional_chassis",
    "requested_chassis",
    "requested_additional_chassis",
)
BY_DEVICE = [
    "external_ids",
    "includes",
    ["map", [["neutron:device_id", f"ovnmeta-{ISO}"]]],
]


@pytest.mark.parametrize(
    ("chassis", "networks", "columns", "ports", "datapaths"),
    [
        pytest.param(
            None, [], ALL, [], [], id="no chassis row: no port at all"
        ),
        pytest.param(
            CHASSIS, [], OLD, [OURS], [], id="an old schema, nothing bound"
        ),
        pytest.param(
            CHASSIS,
            [],
            ("chassis", "requested_chassis"),
            [OURS, REQUESTED],
            [],
            id="OVN 21.12",
        ),
        pytest.param(
            CHASSIS,
            [],
            ALL,
            [OURS, REQUESTED, ALSO_OURS, ALSO_REQUESTED],
            [],
            id="OVN 22.06 and later",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(None, ISO_DATAPATH, None)],
            OLD,
            [OURS],
            [ISO_DATAPATH],
            id="a network without a name: its datapath alone",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, ISO_DATAPATH, None)],
            OLD,
            [OURS, BY_DEVICE],
            [ISO_DATAPATH],
            id="its localport is not known: by device id",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, None, "lp")],
            OLD,
            [OURS, ["logical_port", "==", "lp"]],
            [],
            id="its localport is known: by name",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, ISO_DATAPATH, "lp")] * 2,
            OLD,
            [OURS, ["logical_port", "==", "lp"]],
            [ISO_DATAPATH],
            id="a network twice is asked for once",
        ),
    ],
)
def test_port_conditions(chassis, networks, columns, ports, datapaths):
    assert monitoring.port_conditions(chassis, networks, columns=columns) == {
        "Port_Binding": ports,
        "Datapath_Binding": [
            ["_uuid", "==", ["uuid", str(each)]] for each in datapaths
        ],
    }


def test_the_order_of_networks_does_not_matter():
    networks = [
        LocalNetwork(ISO, ISO_DATAPATH, None),
        LocalNetwork(None, LATE_DATAPATH, "lp"),
    ]
    first, second = (
        monitoring.port_conditions(CHASSIS, order, columns=ALL)
        for order in (networks, networks[::-1])
    )
    assert first == second


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        pytest.param([], [(ISO, None)], False, id="a network comes"),
        pytest.param(
            [(ISO, None)], [(ISO, "lp")], True, id="its localport is found"
        ),
        pytest.param([(ISO, "lp")], [], True, id="it goes"),
        pytest.param(
            [(ISO, "lp")], [(ISO, None)], False, id="its localport goes"
        ),
        pytest.param(
            [(ISO, "lp")], [(ISO, "new")], False, id="it has another one"
        ),
        pytest.param(
            [], [(ISO, "lp")], False, id="it is back before its row has gone"
        ),
        pytest.param(
            [(ISO, None)],
            [(ISO, "lp"), (LATE, None)],
            False,
            id="one is found, another comes",
        ),
    ],
)
def test_only_rows_that_are_missing_make_haste(now, then, expected):
    networks = [LocalNetwork(key, ISO_DATAPATH, name) for key, name in then]
    current, wanted = (
        monitoring.port_conditions(CHASSIS, some, columns=ALL)
        for some in (
            [LocalNetwork(key, ISO_DATAPATH, name) for key, name in now],
            networks,
        )
    )
    assert monitoring.brings(current, wanted, networks) is expected
    assert monitoring.brings(wanted, wanted, networks)


def test_a_datapath_that_is_missing_makes_haste():
    before, after = (
        monitoring.port_conditions(
            CHASSIS, [LocalNetwork(ISO, datapath, "lp")], columns=ALL
        )
        for datapath in (None, ISO_DATAPATH)
    )
    assert not monitoring.brings(before, after, [])
    assert monitoring.brings(after, before, [])


def test_what_stays_is_looked_up_in_hash_tables_by_the_server():
    """One clause that is not `==` has it try all of them in turn."""
    conditions = monitoring.port_conditions(
        CHASSIS, [LocalNetwork(ISO, ISO_DATAPATH, "lp")], columns=ALL
    )
    assert {each[1] for table in conditions.values() for each in table} == {
        "=="
    }


def test_the_chassis_is_found_by_its_name():
    clause = [["name", "==", "compute-1"]]
    assert monitoring.chassis_conditions("compute-1") == {
        "Chassis": clause,
        "Chassis_Private": clause,
    }
