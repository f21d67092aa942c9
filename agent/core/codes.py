"""Every problem that the agent knows: what it is called and what to do.

A code never gets another meaning, and one that is no longer used is not given
to another problem. docs/how-to/troubleshoot.md has a section for each.
"""

import dataclasses
import functools

DOCS = "docs/how-to/troubleshoot.md"


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    `cuts_service`: some instance gets no metadata, or the wrong one, because
    of it. `visible_after_s`: how long it lasts before it is shown. `behind`:
    the kinds whose consequence it may be; it is not shown beside one of them.
    """

    code: str
    title: str
    remedy: str
    cuts_service: bool = True
    visible_after_s: float = 0.0
    behind: tuple[str, ...] = ()
    is_hosts: bool = False

    @property
    def severity(self) -> str:
        """Whether it cuts the service: "error" or "warning"."""
        return "error" if self.cuts_service else "warning"

    @property
    def link(self) -> str:
        """The section about it in the documentation."""
        return f"{DOCS}#{self.code.lower()}"


_Warning = functools.partial(Kind, cuts_service=False)
# The first digit is the part of the path: 1 the databases and OVN's daemons,
# 2 the network on this host, 3 the haproxies, 4 the host and the agent, 5
# Nova, 6 the instance itself.
_KINDS = (
    _Warning(
        "OVNMD-101",
        "OVN Southbound is disconnected",
        "start its ovsdb-server (the agent connects by itself), or correct "
        "ovn_sb_connection and restart the agent",
        visible_after_s=5,
    ),
    _Warning(
        "OVNMD-102",
        "Open vSwitch's database is disconnected",
        "start ovsdb-server of Open vSwitch (the agent connects by itself), "
        "or correct ovsdb_connection and restart the agent",
        visible_after_s=5,
    ),
    Kind(
        "OVNMD-103",
        "this chassis has no name",
        "set external_ids:system-id in the table Open_vSwitch; "
        "ovn-controller needs it too",
        behind=("OVNMD-102",),
    ),
    Kind(
        "OVNMD-104",
        "no Chassis row in OVN Southbound",
        "start ovn-controller; if it runs, restart it, because its name has "
        "changed (system-id, or its option -n)",
        visible_after_s=5,
        behind=("OVNMD-101", "OVNMD-103", "OVNMD-105"),
    ),
    Kind(
        "OVNMD-105",
        "OVN Southbound is empty",
        "start ovn-northd, or point ovn_sb_connection at the right server "
        "and restart the agent",
        behind=("OVNMD-101",),
    ),
    Kind(
        "OVNMD-106",
        "ovn-controller makes no progress",
        "ovn-appctl -t ovn-controller exit --restart (if it hangs, kill -9), "
        "then start it; systemctl restart may take the host's tunnels away",
        visible_after_s=10,
        behind=("OVNMD-101", "OVNMD-102", "OVNMD-104", "OVNMD-107"),
    ),
    Kind(
        "OVNMD-107",
        "ovs-vswitchd makes no progress",
        "correct the setting that the reason names, if any, then restart "
        "ovs-vswitchd (openvswitch-switch, or openvswitch)",
        visible_after_s=5,
        behind=("OVNMD-102",),
    ),
    _Warning(
        "OVNMD-108",
        "Neutron may show this agent as dead",
        "let the agent's user write Chassis_Private in OVN Southbound",
        visible_after_s=10,
        behind=("OVNMD-101", "OVNMD-104"),
    ),
    Kind(
        "OVNMD-109",
        "a row of OVN Southbound can't be used",
        "correct the port in Neutron, or run neutron-ovn-db-sync-util in "
        "repair mode",
    ),
    Kind(
        "OVNMD-110",
        "the integration bridge does not exist",
        "set external_ids:ovn-bridge in the table Open_vSwitch to the "
        "bridge that ovn-controller uses, or restart ovn-controller, which "
        "makes it",
        behind=("OVNMD-102",),
        is_hosts=True,
    ),
    Kind(
        "OVNMD-201",
        "the network has no localport",
        "run neutron-ovn-db-sync-util in repair mode: it creates the "
        "network's metadata port",
    ),
    Kind(
        "OVNMD-202",
        "the network can't be served",
        "read the reason; the agent tries again by itself",
        behind=("OVNMD-302", "OVNMD-401", "OVNMD-402", "OVNMD-403"),
    ),
    Kind(
        "OVNMD-203",
        "an address is claimed by several ports",
        "remove the address, or the allowed address pair, from all ports "
        "except one",
    ),
    Kind(
        "OVNMD-204",
        "another device has the name of the network's veth",
        "remove or rename that device; the agent never touches one that is "
        "not its own",
    ),
    Kind(
        "OVNMD-205",
        "a port is plugged here and OVN has not bound it",
        "look for the port in the log of ovn-controller; check its "
        "requested-chassis and iface-id, and ovn-remote, ovn-encap-ip and "
        "ovn-encap-type in the table Open_vSwitch",
        behind=("OVNMD-101", "OVNMD-104", "OVNMD-106", "OVNMD-107"),
    ),
    Kind(
        "OVNMD-206",
        "Open vSwitch does not forward the network's packets",
        "restart ovn-controller, as for OVNMD-106: it installs the flows "
        "again; a port that is disabled needs its admin state up in Neutron",
        behind=("OVNMD-106", "OVNMD-107", "OVNMD-110"),
    ),
    Kind(
        "OVNMD-207",
        "DHCP gives the instance no route to 169.254.169.254",
        "enable DHCP on the subnet; if it is, neutron-ovn-db-sync-util in "
        "repair mode sets the route; renew the lease in the guest",
        behind=("OVNMD-201",),
    ),
    Kind(
        "OVNMD-208",
        "the port is not on this host",
        "ask the agent of the host that has it; check the name",
    ),
    Kind(
        "OVNMD-209",
        "the network's namespace is not as the agent made it",
        "find out who changes it; the agent repairs it when it checks "
        "the network (selfcheck_interval), or at once on SIGHUP",
        visible_after_s=5,
        behind=("OVNMD-202", "OVNMD-401"),
    ),
    Kind(
        "OVNMD-210",
        "the localport's veth is not on the integration bridge",
        "restart ovs-vswitchd if the port has an error there; the agent "
        "plugs it again by itself",
        visible_after_s=5,
        behind=("OVNMD-102", "OVNMD-107", "OVNMD-110", "OVNMD-202"),
    ),
    Kind(
        "OVNMD-211",
        "the port belongs to no instance",
        "a server's port needs the server's id as its device_id; others "
        "get no metadata",
    ),
    Kind(
        "OVNMD-212",
        "the instance's own interface can't pass packets",
        "look at the interface with its iface-id (ovs-vsctl list Interface); "
        "if it is gone, start the instance again; of two, remove the one "
        "without attached-mac",
        behind=("OVNMD-107", "OVNMD-110"),
    ),
    Kind(
        "OVNMD-301",
        "a network's haproxy does not work",
        "read its log in the fleet's log folder; the agent starts it again "
        "by itself",
        behind=("OVNMD-302", "OVNMD-401", "OVNMD-403", "OVNMD-404"),
    ),
    _Warning(
        "OVNMD-302",
        "supervisord does not answer",
        "if that lasts, kill it with -9 and start ovn-metadata-fleet again: "
        "its haproxies still serve, except in a container, and the next "
        "supervisord takes them over",
        visible_after_s=5,
        behind=("OVNMD-401", "OVNMD-403", "OVNMD-404"),
        is_hosts=True,
    ),
    _Warning(
        "OVNMD-303",
        "too few file descriptors for haproxy",
        "set LimitNOFILE= of ovn-metadata-fleet (in a container: its ulimit "
        "nofile) to 65535 and restart it",
    ),
    Kind(
        "OVNMD-304",
        "haproxy refuses its configuration",
        "correct the option that the reason names and reload the agent; the "
        "old configuration still runs",
    ),
    _Warning(
        "OVNMD-305",
        "an instance asks for more than its share",
        "look at what it asks for: agent-status asks INSTANCE",
    ),
    Kind(
        "OVNMD-306",
        "the agent's own request in a namespace gets no answer",
        "run agent-status why NETWORK: it finds the step that fails",
        visible_after_s=5,
        behind=(
            *("OVNMD-202", "OVNMD-204", "OVNMD-209", "OVNMD-301"),
            *("OVNMD-302", "OVNMD-307", "OVNMD-401", "OVNMD-404"),
        ),
    ),
    Kind(
        "OVNMD-307",
        "the gateway does not work",
        "read its log in the fleet's log folder; the agent starts it again "
        "by itself",
        behind=("OVNMD-302", "OVNMD-401", "OVNMD-403", "OVNMD-404"),
    ),
    _Warning(
        "OVNMD-308",
        "metadata_proxy_socket is not this agent's",
        "stop Neutron's metadata agent, which listens there",
        visible_after_s=5,
    ),
    Kind(
        "OVNMD-309",
        "haproxy has other addresses than the network's ports",
        "do not change haproxy's map by hand; the agent corrects it when it "
        "checks the network (selfcheck_interval), or at once on SIGHUP",
        behind=("OVNMD-301", "OVNMD-302"),
    ),
    Kind(
        "OVNMD-401",
        "the privileged daemon does not work",
        "kill it: the next call starts another one; if it does not start, "
        "read its log and check its socket, or correct helper_command and "
        "restart the agent",
        visible_after_s=5,
        is_hosts=True,
    ),
    Kind(
        "OVNMD-402",
        "the agent may not do what it has to",
        "give its user the right that the reason names; for SELinux and "
        "AppArmor see docs/how-to/confinement.md",
        is_hosts=True,
    ),
    Kind(
        "OVNMD-403",
        "a disk is full",
        "free space where the reason says",
        is_hosts=True,
    ),
    Kind(
        "OVNMD-404",
        "the host is out of descriptors, processes or memory",
        "raise LimitNOFILE, TasksMax or MemoryMax of the unit that the "
        "reason names",
        is_hosts=True,
    ),
    _Warning(
        "OVNMD-405",
        "this host can't be searched for networks",
        "read the reason; until then what others have changed on this host "
        "is not repaired",
        visible_after_s=5,
        behind=("OVNMD-302", "OVNMD-401", "OVNMD-404"),
        is_hosts=True,
    ),
    _Warning(
        "OVNMD-406",
        "the configuration in the files is not in force",
        "correct the files and send SIGHUP, or restart the agent",
    ),
    Kind(
        "OVNMD-407",
        "the agent makes no progress",
        "send it SIGUSR2, keep the report that it logs, and restart it: the "
        "networks are still served",
        behind=("OVNMD-401",),
    ),
    _Warning(
        "OVNMD-408",
        "the metrics can't be read, or their counters not kept",
        "free the path or the port that the reason names; the agent tries "
        "again by itself",
    ),
    _Warning(
        "OVNMD-409",
        "the log can't be written",
        "make room on the disk, or let the agent's user write the log's "
        "folder; meanwhile the lines go to stderr, and nothing else fails",
    ),
    Kind(
        "OVNMD-501",
        "Nova's metadata API does not answer",
        "start it, or correct nova_metadata_host and nova_metadata_port and "
        "reload the agent; instances get 503 and try again",
        behind=("OVNMD-307", "OVNMD-502", "OVNMD-503"),
    ),
    Kind(
        "OVNMD-502",
        "nova_metadata_host can't be looked up",
        "correct the DNS server of this host, or nova_metadata_host and "
        "reload the agent",
    ),
    Kind(
        "OVNMD-503",
        "the TLS connection to Nova fails",
        "correct the certificate of Nova's server, or auth_ca_cert, "
        "nova_metadata_insecure or nova_client_cert and reload the agent",
        behind=("OVNMD-307",),
    ),
    Kind(
        "OVNMD-504",
        "Nova refuses what this agent signs",
        "make metadata_proxy_shared_secret the one in nova.conf [neutron], "
        "then send the agent SIGHUP",
        behind=("OVNMD-501",),
    ),
    Kind(
        "OVNMD-505",
        "Nova answers with errors",
        "read the log of Nova's metadata API",
        behind=("OVNMD-501",),
    ),
    Kind(
        "OVNMD-506",
        "Nova does not know the instance",
        "check that the port's device id is the instance's, that this Nova "
        "is the one of its cell, and that nova.conf has "
        "service_metadata_proxy = true in [neutron]",
        behind=("OVNMD-501",),
    ),
    _Warning(
        "OVNMD-507",
        "some of Nova's addresses do not answer",
        "start Nova's metadata API there; the others answer meanwhile",
        visible_after_s=5,
        behind=("OVNMD-501", "OVNMD-503"),
    ),
    _Warning(
        "OVNMD-508",
        "Nova answers slowly",
        "cloud-init gives up after 10 s: give Nova's metadata API more "
        "workers",
        visible_after_s=30,
        behind=("OVNMD-501",),
    ),
    _Warning(
        "OVNMD-601",
        "the path is whole: look inside the guest",
        "look at its datasource list, its routes, its firewall",
    ),
)

KINDS = {kind.code: kind for kind in _KINDS}
