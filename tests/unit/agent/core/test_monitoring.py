"""Which rows are asked for: little, and the same whatever the order."""

from __future__ import annotations

import uuid

import pytest

from ovn_metadata.agent.core import monitoring
from ovn_metadata.agent.core.monitoring import LocalNetwork

CHASSIS = uuid.UUID("45658dcb-a236-4029-81c5-1f9427b9b350")
ISO = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
ISO_DATAPATH = uuid.UUID("7f27c9ac-88f9-4d76-8829-de178803baaf")
LATE_DATAPATH = uuid.UUID("6baef119-17a3-4d9b-b40a-9ca895b3b69d")
OURS = ["chassis", "==", ["uuid", str(CHASSIS)]]
ALSO_OURS = [
    "additional_chassis",
    "includes",
    ["set", [["uuid", str(CHASSIS)]]],
]
REQUESTED = ["requested_chassis", "==", ["uuid", str(CHASSIS)]]
ALSO_REQUESTED = ["requested_additional_chassis", *ALSO_OURS[1:]]
ALL = (
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
            CHASSIS, [], (), [OURS], [], id="an old schema, nothing bound"
        ),
        pytest.param(
            CHASSIS,
            [],
            ("requested_chassis",),
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
            (),
            [OURS],
            [ISO_DATAPATH],
            id="a network without a name: its datapath alone",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, ISO_DATAPATH, None)],
            (),
            [OURS, BY_DEVICE],
            [ISO_DATAPATH],
            id="its localport is not known: by device id",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, None, "lp")],
            (),
            [OURS, ["logical_port", "==", "lp"]],
            [],
            id="its localport is known: by name",
        ),
        pytest.param(
            CHASSIS,
            [LocalNetwork(ISO, ISO_DATAPATH, "lp")] * 2,
            (),
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
    assert monitoring.changed(first, second) == {}


def test_changed_names_the_tables_that_differ():
    wanted = {"Port_Binding": [OURS], "Datapath_Binding": []}
    assert monitoring.changed({}, wanted) == wanted
    assert monitoring.changed(
        {"Port_Binding": [], "Datapath_Binding": []}, wanted
    ) == {"Port_Binding": [OURS]}


def test_the_chassis_is_found_by_its_name():
    clause = [["name", "==", "compute-1"]]
    assert monitoring.chassis_conditions("compute-1") == {
        "Chassis": clause,
        "Chassis_Private": clause,
    }
