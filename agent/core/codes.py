"""Every problem that the agent knows: what it is called and what to do.

A code never gets another meaning, and one that is no longer used is not given
to another problem. docs/how-to/troubleshoot.md has a section for each.
"""

import dataclasses
import re
from collections.abc import Iterator

DOCS = "docs/how-to/troubleshoot.md"


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    `severity`: "error" if some instance gets no metadata, or the wrong one,
    because of it, else "warning". `visible_after_s`: how long it lasts before
    it is shown. `behind`: the kinds whose consequence it may be; it is not
    shown beside one of them.
    """

    code: str
    severity: str
    title: str
    remedy: str
    visible_after_s: float = 0.0
    behind: tuple[str, ...] = ()
    is_hosts: bool = False

    @property
    def link(self) -> str:
        """The section about it in the documentation."""
        return f"{DOCS}#{self.code.lower()}"


# Code, severity and more, as `_kinds` reads them; then the title, and what to
# do. The first digit is the part of the path: 1 the databases and OVN's
# daemons, 2 the network on this host, 3 the haproxies, 4 the host and the
# agent, 5 Nova, 6 the instance itself.
_TABLE = """
OVNMD-101 warning after=5
    OVN Southbound is disconnected
    start its ovsdb-server (the agent connects by itself), or correct
    ovn_sb_connection and restart the agent
OVNMD-102 warning after=5
    Open vSwitch's database is disconnected
    start ovsdb-server of Open vSwitch (the agent connects by itself), or
    correct ovsdb_connection and restart the agent
OVNMD-103 error behind=102
    this chassis has no name
    set external_ids:system-id in the table Open_vSwitch; ovn-controller
    needs it too
OVNMD-104 error after=5 behind=101,103,105
    no Chassis row in OVN Southbound
    start ovn-controller; if it runs, restart it, because its name has
    changed (system-id, or its option -n)
OVNMD-105 error behind=101
    OVN Southbound is empty
    start ovn-northd, or point ovn_sb_connection at the right server and
    restart the agent
OVNMD-106 error after=10 behind=101,102,104,107
    ovn-controller makes no progress
    ovn-appctl -t ovn-controller exit --restart (if it hangs, kill -9),
    then start it; systemctl restart may take the host's tunnels away
OVNMD-107 error after=5 behind=102
    ovs-vswitchd makes no progress
    correct the setting that the reason names, if any, then restart
    ovs-vswitchd (openvswitch-switch, or openvswitch)
OVNMD-108 warning after=10 behind=101,104
    Neutron may show this agent as dead
    let the agent's user write Chassis_Private in OVN Southbound
OVNMD-109 error
    a row of OVN Southbound can't be used
    do what the reason says, or correct the port in Neutron; if the port is
    right there, run neutron-ovn-db-sync-util in repair mode
OVNMD-110 error behind=102 of=host
    the integration bridge does not exist
    set external_ids:ovn-bridge in the table Open_vSwitch to the bridge
    that ovn-controller uses, or restart ovn-controller, which makes it
OVNMD-201 error
    the network has no localport
    run neutron-ovn-db-sync-util in repair mode: it creates the network's
    metadata port
OVNMD-202 error behind=302,401,402,403
    the network can't be served
    read the reason; the agent tries again by itself
OVNMD-203 error
    an address is claimed by several ports
    remove the address, or the allowed address pair, from all ports except
    one
OVNMD-204 error
    another device has the name of the network's veth
    remove or rename that device; the agent never touches one that is not
    its own
OVNMD-205 error behind=101,104,106,107
    a port is plugged here and OVN has not bound it
    look for the port in the log of ovn-controller; check its
    requested-chassis and iface-id, and ovn-remote, ovn-encap-ip and
    ovn-encap-type in the table Open_vSwitch
OVNMD-206 error behind=106,107,110
    Open vSwitch does not forward the network's packets
    restart ovn-controller, as for OVNMD-106: it installs the flows again;
    a port that is disabled needs its admin state up in Neutron
OVNMD-207 error behind=201
    DHCP gives the instance no route to 169.254.169.254
    enable DHCP on the subnet; if it is, neutron-ovn-db-sync-util in repair
    mode sets the route; renew the lease in the guest
OVNMD-208 error
    the port is not on this host
    ask the agent of the host that has it; check the name
OVNMD-209 error after=5 behind=202,401
    the network's namespace is not as the agent made it
    find out who changes it; the agent repairs it when it checks the
    network (selfcheck_interval), or at once on SIGHUP
OVNMD-210 error after=5 behind=102,107,110,202
    the localport's veth is not on the integration bridge
    restart ovs-vswitchd if the port has an error there; the agent plugs it
    again by itself
OVNMD-211 error
    the port belongs to no instance
    a server's port needs the server's id as its device_id; others get no
    metadata
OVNMD-212 error behind=107,110
    the instance's own interface can't pass packets
    look at the interface with its iface-id (ovs-vsctl list Interface); if
    it is gone, start the instance again; of two, remove the one without
    attached-mac
OVNMD-301 error behind=302,401,403,404
    a network's haproxy does not work
    read its log in the fleet's log folder; the agent starts it again by
    itself
OVNMD-302 warning after=5 behind=401,403,404 of=host
    supervisord does not answer
    if that lasts, and the host is not overloaded, kill it with -9 and start
    ovn-metadata-fleet again: its haproxies still serve, except in a
    container, and the next supervisord takes them over
OVNMD-303 warning
    too few file descriptors for haproxy
    set LimitNOFILE= of ovn-metadata-fleet (in a container: its ulimit
    nofile) to 65535 and restart it
OVNMD-304 error
    haproxy refuses its configuration
    correct the option that the reason names and reload the agent; the old
    configuration still runs
OVNMD-305 warning
    an instance asks for more than its share
    look at what it asks for: agent-status asks INSTANCE
OVNMD-306 error after=5 behind=202,204,209,301,302,307,401,404
    the agent's own request in a namespace gets no answer
    run agent-status why NETWORK: it finds the step that fails
OVNMD-307 error behind=302,401,403,404
    the gateway does not work
    read its log in the fleet's log folder; the agent starts it again by
    itself
OVNMD-308 warning after=5
    metadata_proxy_socket is not this agent's
    stop Neutron's metadata agent, which listens there
OVNMD-309 error behind=301,302
    haproxy has other addresses than the network's ports
    do not change haproxy's map by hand; the agent corrects it when it
    checks the network (selfcheck_interval), or at once on SIGHUP
OVNMD-401 error after=5 of=host
    the privileged daemon does not work
    if the host is not overloaded, kill it: the next call starts another
    one; if it does not start, read its log and check its socket, or correct
    helper_command and restart the agent
OVNMD-402 error of=host
    the agent may not do what it has to
    give its user the right that the reason names; for SELinux and AppArmor
    see docs/how-to/confinement.md
OVNMD-403 error of=host
    a disk is full
    free space where the reason says
OVNMD-404 error of=host
    the host is out of descriptors, processes or memory
    raise LimitNOFILE, TasksMax or MemoryMax of the unit that the reason
    names
OVNMD-405 warning after=5 behind=302,401,404 of=host
    this host can't be searched for networks
    read the reason; until then what others have changed on this host is
    not repaired
OVNMD-406 warning
    the configuration in the files is not in force
    correct the files and send SIGHUP, or restart the agent
OVNMD-407 error behind=401
    the agent makes no progress
    send it SIGUSR2, keep the report that it logs, and restart it: the
    networks are still served
OVNMD-408 warning
    the metrics can't be read, or their counters not kept
    free the path or the port that the reason names; the agent tries again
    by itself
OVNMD-409 warning
    the log can't be written
    make room on the disk, or let the agent's user write the log's folder;
    meanwhile the lines go to stderr, and nothing else fails
OVNMD-501 error behind=307,502,503
    Nova's metadata API does not answer
    start it, or correct nova_metadata_host and nova_metadata_port and
    reload the agent; instances get 503 and try again
OVNMD-502 error
    nova_metadata_host can't be looked up
    correct the DNS server of this host, or nova_metadata_host and reload
    the agent
OVNMD-503 error behind=307
    the TLS connection to Nova fails
    correct the certificate of Nova's server, or auth_ca_cert,
    nova_metadata_insecure or nova_client_cert and reload the agent
OVNMD-504 error behind=501
    Nova refuses what this agent signs
    make metadata_proxy_shared_secret the one in nova.conf [neutron], then
    send the agent SIGHUP
OVNMD-505 error behind=501
    Nova answers with errors
    read the log of Nova's metadata API
OVNMD-506 error behind=501
    Nova does not know the instance
    check that the port's device id is the instance's, that this Nova is
    the one of its cell, and that nova.conf has service_metadata_proxy =
    true in [neutron]
OVNMD-507 warning after=5 behind=501,503
    some of Nova's addresses do not answer
    start Nova's metadata API there; the others answer meanwhile
OVNMD-508 warning after=30 behind=501
    Nova answers slowly
    cloud-init gives up after 10 s: give Nova's metadata API more workers
OVNMD-601 warning
    the path is whole: look inside the guest
    look at its datasource list, its routes, its firewall
"""


def _kinds() -> Iterator[Kind]:
    for entry in re.split(r"\n(?=\S)", _TABLE.strip()):
        head, title, *remedy = map(str.strip, entry.splitlines())
        code, severity, *words = head.split()
        more = dict(word.split("=") for word in words)
        behind = more.get("behind", "").split(",")
        yield Kind(
            code,
            severity,
            title,
            " ".join(remedy),
            visible_after_s=float(more.get("after", 0)),
            behind=tuple(f"OVNMD-{number}" for number in behind if number),
            is_hosts=more.get("of") == "host",
        )


KINDS = {kind.code: kind for kind in _kinds()}
