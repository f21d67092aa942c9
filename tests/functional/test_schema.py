"""A database's schema changes while the agent runs: an upgrade, and back.

The library's IDL stays with the schema that it was made with. The agent's
pass over all networks is ten minutes away: what is right sooner was noticed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Port, Sandbox, wait_for
from sandbox.case import Host, new_instance, ready, wait_served
from sandbox.controller import FOREIGN, bind, frozen, here
from sandbox.daemons import run
from sandbox.hoststate import haproxies, wait_host
from sandbox.ovn import OVS_RUN, OVS_SOCKET
from sandbox.ovsdb import to_set, to_uuid, update

OPTIONS = {("ovn_metadata_agent", "resync_interval"): "600"}
SOUTHBOUND = "OVN_Southbound", "/usr/share/ovn/ovn-sb.ovsschema"
VSWITCH = "Open_vSwitch", "/usr/share/openvswitch/vswitch.ovsschema"
# What OVN before 22.06 does not have.
MIGRATION = ("additional_chassis", "requested_additional_chassis")

VALUES = (
    ("Port_Binding", "type"),
    ("Port_Binding", "tag"),
    ("Port_Binding", "parent_port"),
    ("SB_Global", "nb_cfg"),
    ("Chassis_Private", "nb_cfg"),
)


@dataclasses.dataclass
class Chassis:
    """A chassis with an instance that is to stay served."""

    box: Sandbox
    instance: Instance
    elsewhere: Port  # bound to another chassis, which nobody runs
    foreign: str  # that chassis' uuid
    folder: Path

    def schema(
        self,
        database: tuple[str, str],
        *,
        lacks: tuple[str, Collection[str]] = ("", ()),
        gains: str = "",
        loosens: Collection[tuple[str, str]] = (),
    ) -> str:
        """Return a file with the schema of DATABASE.

        LACKS is a table and the columns that it does not have, GAINS a table
        with one column more. LOOSENS has tables with a column of one value
        that may have none, or several.
        """
        known = json.loads(Path(database[1]).read_text())
        table, columns = lacks
        for column in columns:
            del known["tables"][table]["columns"][column]
            known["version"] = "1.0.0"
        if gains:
            known["tables"][gains]["columns"]["more"] = {"type": "string"}
            known["version"] = "99.0.0"
        for table, column in loosens:
            one = known["tables"][table]["columns"][column]
            if not isinstance(one["type"], dict):
                one["type"] = {"key": one["type"]}
            one["type"] |= {"min": 0, "max": "unlimited"}
            known["version"] = "98.0.0"
        known.pop("cksum", None)
        file = self.folder / f"{known['version']}.ovsschema"
        file.write_text(json.dumps(known))
        return str(file)

    def changes(self, database: tuple[str, str]) -> int:
        """Return how many changes of DATABASE the agent has noticed."""
        return self.box.agent.log().count(f"the schema of {database[0]} is")

    def convert(self, database: tuple[str, str], schema: str) -> None:
        """Convert DATABASE to SCHEMA on its server; wait until noticed."""
        before = self.changes(database)
        sockets = {
            SOUTHBOUND: self.box.ovn.southbound.members[0].socket,
            VSWITCH: OVS_SOCKET,
        }
        run("ovsdb-client", "convert", f"unix:{sockets[database]}", schema)
        self.wait_changed(database, before)

    def wait_changed(self, database: tuple[str, str], before: int) -> None:
        """Wait until the agent has noticed one more change than BEFORE."""
        wait_for(
            lambda: self.changes(database) > before,
            timeout_s=90,
            what=f"a line about the schema of {database[0]}",
        )
        assert self.changes(database) == before + 1

    def follows(self) -> None:
        """Check that the agent follows a port that comes and goes."""
        network = self.instance.port.network
        with new_instance(self.box, network) as instance:
            wait_host(self.box, network, self.instance.port, instance.port)
        wait_host(self.box, network, self.instance.port)

    def binds(self, column: str, *, chassis: str) -> None:
        """Write that the port of elsewhere is bound to CHASSIS in COLUMN.

        As an additional chassis it is requested as well.
        """
        where = [["logical_port", "==", self.elsewhere.id]]
        value = to_set([to_uuid(chassis)] if chassis else [])
        columns = MIGRATION if column in MIGRATION else (column,)
        row = dict.fromkeys(columns, value)
        self.box.ovn.sb.transact([update("Port_Binding", where, row)])

    def follows_rows(self, column: str) -> None:
        """See a port served while COLUMN of its row has this chassis."""
        network = self.elsewhere.network
        self.binds(column, chassis=here(self.box))
        wait_host(self.box, network, self.elsewhere)
        is_bound = column == "chassis"
        self.binds(column, chassis=self.foreign if is_bound else "")
        wait_host(self.box, network)


@pytest.fixture(scope="module")
def shared(host: Host, tmp_path_factory) -> Chassis:
    box = ready(host.sandbox(OPTIONS))
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance)
    foreign = box.neutron.add_foreign_chassis(FOREIGN)
    other = box.neutron.create_network("elsewhere")
    port = box.neutron.create_port(other, host=FOREIGN)
    bind(box, port, chassis=foreign)
    folder = tmp_path_factory.mktemp("schemas")
    return Chassis(box, instance, port, foreign, folder)


@pytest.fixture
def chassis(shared: Chassis) -> Iterator[Chassis]:
    """Provide it under load; check that one haproxy answered everything."""
    network = shared.instance.port.network.id
    before, mark = haproxies(shared.box, network), shared.box.agent.mark()
    with Loader([shared.instance]) as load:
        yield shared
        shared.follows()
    assert not load.failures
    assert haproxies(shared.box, network) == before
    shared.box.agent.wait_ready()
    new = shared.box.agent.log(mark)
    assert f"removed network={network}" not in new
    assert "Traceback" not in new


def test_southbound_is_converted_down_and_up(chassis: Chassis):
    """As OVN's packages do when it is upgraded, or goes back."""
    old = chassis.schema(SOUTHBOUND, lacks=("Port_Binding", MIGRATION))
    # They are of the new version and need all of its columns.
    with frozen(chassis.box, "ovn-controller", "northd"):
        chassis.convert(SOUTHBOUND, old)
        chassis.follows_rows("chassis")
        chassis.convert(SOUTHBOUND, chassis.schema(SOUTHBOUND))
        chassis.follows_rows("additional_chassis")


def test_southbound_restarts_with_another_schema(chassis: Chassis):
    """An older one, then the newest: its columns are used at once."""
    ovn = chassis.box.ovn
    (member,) = ovn.southbound.members
    old = chassis.schema(SOUTHBOUND, lacks=("Port_Binding", MIGRATION))
    with frozen(chassis.box, "ovn-controller", "northd"):
        for schema, column in (
            (old, "chassis"),
            (chassis.schema(SOUTHBOUND), "additional_chassis"),
        ):
            before = chassis.changes(SOUTHBOUND)
            ovn.stop("sb")
            run("ovsdb-tool", "convert", str(member.database), schema)
            ovn.start("sb")
            chassis.wait_changed(SOUTHBOUND, before)
            chassis.follows_rows(column)


def test_southbound_has_sets_in_place_of_values(chassis: Chassis):
    """What a newer OVN may do; the rows have what they had."""
    new = chassis.schema(SOUTHBOUND, loosens=VALUES)
    with frozen(chassis.box, "ovn-controller", "northd"):
        chassis.convert(SOUTHBOUND, new)
        chassis.follows_rows("chassis")
        chassis.convert(SOUTHBOUND, chassis.schema(SOUTHBOUND))


def test_southbound_is_detached_and_added_again(chassis: Chassis):
    """The server cancels every monitor; nothing else tells the clients."""
    (member,) = chassis.box.ovn.southbound.members
    control = str(member.control)
    before = chassis.changes(SOUTHBOUND)
    for command in (
        ("ovsdb-server/remove-db", SOUTHBOUND[0]),
        ("ovsdb-server/add-db", str(member.database)),
    ):
        run("ovs-appctl", "-t", control, *command)
    chassis.follows()
    assert chassis.changes(SOUTHBOUND) == before


def test_open_vswitch_is_converted_up_and_down(chassis: Chassis):
    """The plugged ports are found as they were."""
    new = chassis.schema(VSWITCH, gains="Interface")
    chassis.convert(VSWITCH, new)
    chassis.follows()
    chassis.convert(VSWITCH, chassis.schema(VSWITCH))


def test_open_vswitch_is_detached_and_added_again(chassis: Chassis):
    """As the Southbound database."""
    control = str(OVS_RUN / "ovsdb-server.ctl")
    for command in (
        ("ovsdb-server/remove-db", VSWITCH[0]),
        ("ovsdb-server/add-db", str(chassis.box.ovn.folder / "ovs.db")),
    ):
        run("ovs-appctl", "-t", control, *command)
