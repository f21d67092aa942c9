"""Show the agents of a chassis as neutron-server's agents API does.

Neutron's own Python runs this with Neutron's own classes; there is no
neutron-server around them. Each line on stdin is answered by a line of JSON:
which agents are listed, and which the rows have, each with whether it is
alive. An agent is alive while it is at most one behind nb_cfg.

    python agents_api.py NORTHBOUND SOUTHBOUND
"""

import json
import sys
import types

from neutron.common import config  # noqa: F401  it registers the options
from neutron.conf.agent.database import agents_db
from neutron.plugins.ml2.drivers.ovn.agent import neutron_agent
from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import ovsdb_monitor
from oslo_config import cfg
from ovsdbapp.backend.ovs_idl import connection, event, idlutils

TIMEOUT_S = 120
TABLES = {
    "OVN_Northbound": {"NB_Global": ["nb_cfg"]},
    "OVN_Southbound": {
        "Chassis": [],
        "Chassis_Private": [],
        "Encap": [],
        "SB_Global": ["external_ids"],
    },
}


class Idl(connection.OvsdbIdl):
    """An IDL that runs Neutron's events."""

    def __init__(self, remote, schema, events=()):
        helper = idlutils.get_schema_helper(remote, schema)
        for table, columns in TABLES[schema].items():
            if columns:
                helper.register_columns(table, columns)
            else:
                helper.register_table(table)
        self.events = event.RowEventHandler()
        self.events.watch_events(events)
        super().__init__(remote, helper, leader_only=False)

    def notify(self, event, row, updates=None):
        self.events.notify(event, row, updates)


def main() -> None:
    """Follow both databases, and answer."""
    northbound, southbound = sys.argv[1:]
    agents_db.register_db_agents_opts()
    # All are alive for this long after ovn-controller's heartbeat.
    cfg.CONF.set_override("agent_down_time", 1)
    driver = types.SimpleNamespace(nb_ovn=types.SimpleNamespace())
    cache = neutron_agent.AgentCache(driver)
    nb_idl = Idl(northbound, "OVN_Northbound")
    connection.Connection(nb_idl, timeout=TIMEOUT_S).start()
    (driver.nb_ovn.nb_global,) = nb_idl.tables["NB_Global"].rows.values()
    kinds = (
        ovsdb_monitor.ChassisAgentDownEvent,
        ovsdb_monitor.ChassisAgentWriteEvent,
        ovsdb_monitor.ChassisOVNAgentWriteEvent,
    )
    events = [kind(driver) for kind in kinds]
    sb_idl = Idl(southbound, "OVN_Southbound", events)
    connection.Connection(sb_idl, timeout=TIMEOUT_S).start()
    rows = sb_idl.tables["Chassis_Private"].rows
    for _ in sys.stdin:
        known = [
            kind(row, driver)
            for row in [*rows.values()]  # a thread of the IDL changes it
            for kind in (
                neutron_agent.ControllerAgent,
                neutron_agent.MetadataAgent,
                neutron_agent.OVNNeutronAgent,
            )
            if kind.id_from_chassis_private(row)
        ]
        answer = [
            {agent.binary: agent.alive for agent in agents}
            for agents in (cache.get_agents(), known)
        ]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
