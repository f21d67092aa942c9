"""When OVN's daemons make no progress, and when that only seems so."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from ovn_metadata.agent.core import signs
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    NetworkSnapshot,
    VifPort,
    VswitchPort,
    VswitchSnapshot,
)

NETWORK = "11111111-1111-4111-8111-111111111111"
PORT = VifPort(
    logical_port="port",
    mac="fa:16:3e:00:00:01",
    macs=frozenset({"fa:16:3e:00:00:01"}),
    addresses=(),
    instance="vm",
    project="p",
)
FINE = {"ovs-vswitchd": "answers", "ovn-controller": "answers"}


def chassis(*ports: VifPort, kept: bool = False, **more) -> ChassisSnapshot:
    network = NetworkSnapshot(NETWORK, None, ports, kept=kept)
    given = {"synced": True, "nb_cfg": 7, "followed": 7, **more}
    return ChassisSnapshot(uuid.UUID(int=1), {NETWORK: network}, **given)


def vswitch(*plugged: str, installed=(), **more) -> VswitchSnapshot:
    return VswitchSnapshot(
        plugged=frozenset(plugged),
        installed=dict.fromkeys(installed, 0),
        **{"marked": frozenset(installed), **more},
    )


def codes(
    chassis, vswitch, daemons=FINE, *, after_s=1000.0, tells_installed=True
) -> dict[tuple[str, str], str]:
    """Return the problems after what is given has lasted for AFTER_S."""
    since: dict[signs.Sign, float] = {}
    for now in (0.0, after_s):
        found = signs.signs(
            chassis, vswitch, daemons, tells_installed=tells_installed
        )
        since = {sign: since.get(sign, now) for sign in found}
    return signs.problems(since, now=after_s)


@pytest.mark.parametrize(
    ("chassis", "vswitch", "daemons"),
    [
        pytest.param(chassis(), vswitch(), FINE, id="nothing here"),
        pytest.param(
            chassis(PORT), vswitch("port", installed=["port"]), FINE, id="well"
        ),
        pytest.param(
            chassis(PORT),
            vswitch("port", marked=frozenset({"port"})),
            FINE,
            id="a trunk's parent that has lost a subport, and the mark",
        ),
        pytest.param(chassis(PORT), vswitch(), FINE, id="not plugged"),
        pytest.param(
            chassis(dataclasses.replace(PORT, moves_here=True)),
            vswitch("port"),
            FINE,
            id="a live migration to here",
        ),
        pytest.param(
            chassis(dataclasses.replace(PORT, parent="trunk")),
            vswitch("port"),
            FINE,
            id="a subport is plugged nowhere",
        ),
        pytest.param(
            chassis(PORT, kept=True), vswitch("port"), FINE, id="kept"
        ),
        pytest.param(
            chassis(names=frozenset({NETWORK})),
            vswitch(NETWORK),
            FINE,
            id="a port that can't be served is bound here",
        ),
        pytest.param(
            chassis(), vswitch("o-hm0"), FINE, id="an iface-id of others"
        ),
        pytest.param(
            chassis(dataclasses.replace(PORT, bound=False), synced=False),
            vswitch("port"),
            FINE,
            id="rows are missing",
        ),
        pytest.param(None, None, {}, id="disconnected, and not asked"),
        pytest.param(
            None,
            vswitch("port"),
            {"ovs-vswitchd": "unknown", "ovn-controller": "unknown"},
            id="in other containers",
        ),
        pytest.param(chassis(followed=None), vswitch(), FINE, id="no row"),
        pytest.param(chassis(followed=9), vswitch(), FINE, id="ahead"),
    ],
)
def test_no_sign_of_a_problem(chassis, vswitch, daemons):
    assert codes(chassis, vswitch, daemons) == {}


@pytest.mark.parametrize(
    ("chassis", "vswitch", "daemons", "key", "lasts_s"),
    [
        pytest.param(
            chassis(),
            vswitch(astray=frozenset({"port"})),
            FINE,
            ("OVNMD-205", ""),
            30,
            id="plugged into another bridge",
        ),
        pytest.param(
            None,
            None,
            {"ovn-controller": "dead"},
            ("OVNMD-106", ""),
            3,
            id="ovn-controller dead",
        ),
        pytest.param(
            None,
            None,
            {"ovn-controller": "silent"},
            ("OVNMD-106", ""),
            12,
            id="ovn-controller hangs",
        ),
        pytest.param(
            None,
            None,
            {"ovs-vswitchd": "silent"},
            ("OVNMD-107", ""),
            12,
            id="ovs-vswitchd hangs",
        ),
        pytest.param(
            None,
            vswitch(applied=4),
            {},
            ("OVNMD-107", ""),
            15,
            id="ovs-vswitchd applies nothing",
        ),
        pytest.param(
            None,
            vswitch(problem="it waits for flows"),
            {},
            ("OVNMD-107", ""),
            10,
            id="ovs-vswitchd forwards nothing",
        ),
        pytest.param(
            None,
            None,
            {"ovn-controller": "lost"},
            ("OVNMD-106", ""),
            20,
            id="ovn-controller is not connected",
        ),
        pytest.param(
            chassis(PORT),
            vswitch(ofports={"tap11111111-10": -1}),
            {},
            ("OVNMD-210", NETWORK),
            10,
            id="ovs-vswitchd can't use the veth",
        ),
        pytest.param(
            chassis(),
            vswitch(
                NETWORK,
                ports={
                    "tap11111111-10": VswitchPort(
                        "br-int", NETWORK, is_instance=True
                    )
                },
            ),
            {},
            ("OVNMD-205", ""),
            30,
            id="an instance's port, named like a veth",
        ),
        pytest.param(
            chassis(followed=6),
            None,
            {},
            ("OVNMD-106", ""),
            60,
            id="ovn-controller follows nothing",
        ),
        pytest.param(
            chassis(dataclasses.replace(PORT, bound=False)),
            vswitch("port"),
            FINE,
            ("OVNMD-205", NETWORK),
            30,
            id="requested, plugged, not bound",
        ),
        pytest.param(
            chassis(),
            vswitch(NETWORK),
            FINE,
            ("OVNMD-205", ""),
            30,
            id="plugged, and no row has it",
        ),
        pytest.param(
            chassis(PORT),
            vswitch("port"),
            FINE,
            ("OVNMD-206", NETWORK),
            30,
            id="no flows",
        ),
        pytest.param(
            chassis(PORT),
            vswitch("port", installed=["port"], doubled=frozenset({"port"})),
            FINE,
            ("OVNMD-212", NETWORK),
            30,
            id="two interfaces",
        ),
    ],
)
def test_a_sign_that_lasts_is_a_problem(
    chassis, vswitch, daemons, key, lasts_s
):
    assert codes(chassis, vswitch, daemons, after_s=lasts_s - 0.1) == {}
    (found,) = codes(chassis, vswitch, daemons, after_s=lasts_s).items()
    assert found[0] == key
    assert found[1]


def test_old_ovn_marks_no_port():
    assert not codes(chassis(PORT), vswitch("port"), tells_installed=False)


def test_progress_begins_anew():
    """A busy ovn-controller that is always behind, but moves."""
    since: dict[signs.Sign, float] = {}
    for now in range(600):
        rows = chassis(followed=now // 40, nb_cfg=now // 40 + 1)
        found = signs.signs(rows, None, FINE, tells_installed=True)
        since = {sign: since.get(sign, now) for sign in found}
        assert signs.problems(since, now=now) == {}


def test_ports_come_and_go_all_the_time():
    """In one network there is always one whose flows are not there yet."""
    since: dict[signs.Sign, float] = {}
    for now in range(0, 3000, 5):
        name = f"port{now // 20}"
        rows = chassis(dataclasses.replace(PORT, logical_port=name))
        found = signs.signs(rows, vswitch(name), FINE, tells_installed=True)
        since = {sign: since.get(sign, now) for sign in found}
        assert signs.problems(since, now=now) == {}


def test_several_ports_are_one_problem():
    ports = [dataclasses.replace(PORT, logical_port=f"p{n}") for n in "312"]
    found = codes(chassis(*ports), vswitch("p1", "p2", "p3"))
    (reason,) = found.values()
    assert reason.startswith("port p1 is bound here and ovn-controller has")
    assert reason.endswith(" (and 2 more)")


@pytest.mark.parametrize(
    ("names", "installed", "age_s", "lacks"),
    [
        pytest.param((), [], 1.0, True, id="just plugged"),
        pytest.param((), [], 60.0, False, id="plugged, and bound nowhere"),
        pytest.param((), [NETWORK], 60.0, True, id="installed, in no row"),
        pytest.param((NETWORK,), [NETWORK], 1.0, False, id="in a row"),
    ],
)
def test_rows_may_lack_a_port_that_has_flows(names, installed, age_s, lacks):
    rows = chassis(names=frozenset(names))
    here = vswitch(NETWORK, installed=installed)
    unknown = dict.fromkeys(signs.unknown_ports(rows, here), 100.0)
    assert signs.may_lack(unknown, here, now=100.0 + age_s) is lacks
    said = codes(rows, here).get(("OVNMD-205", ""), "")
    assert ("behind?" in said) is (bool(installed) and not names)
