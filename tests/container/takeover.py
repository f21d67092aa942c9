"""From Neutron's agent in a container to ours in two."""

from __future__ import annotations

import os

from sandbox import host, peer, wait_for
from sandbox.daemons import run
from sandbox.processes import Process, processes

from .containers import AGENT, SERVICE_ID, Containers

OPTIONS = {
    # Root's needs no help to become it.
    ("AGENT", "root_helper"): "env",
    ("DEFAULT", "metadata_workers"): "0",
}
# As a privileged container is: PIDs and mounts of its own, with /run/netns
# shared; its haproxies end with it.
CONTAINER = (
    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("--mount", "--propagation=unchanged"),
)


def from_neutrons_container(c: Containers) -> None:
    """Take over from haproxies of another container; nobody notices."""
    c.prepare()
    theirs = peer.NeutronAgent(
        c.box.folder, c.box.ovn, c.box.nova, shares=c.box.agent
    )
    theirs._daemon.command = (*CONTAINER, *theirs._daemon.command)
    c.box.agent.options.update(OPTIONS)
    c.box.plug(c.ports)
    theirs.start()
    for file in host.CONFIG_FOLDER.iterdir():
        os.chown(file, 0, SERVICE_ID)
    theirs.wait_ready()
    wait_for(c.netns.exists, timeout_s=60, what="their namespace")
    inside = ("ip", "netns", "exec", c.netns.name)
    inner = c.netns.name.removeprefix("ovnmeta-")[:10]
    # On the userspace datapath their rule for checksums is not enough here.
    run(*inside, "ethtool", "-K", f"tap{inner}1", "tx", "off")
    wait_for(
        lambda: all(vm.fetch(timeout=2).status == 200 for vm in c.instances),
        timeout_s=60,
        what="metadata by Neutron's agent",
    )
    assert neutrons()
    with c.undisturbed("from Neutron's agent in a container"):
        c.start_both()
        wait_for(
            lambda: not neutrons(), timeout_s=90, what="their haproxies' end"
        )
        as_agent = ("exec", f"--user={SERVICE_ID}", AGENT)
        wait_for(
            lambda: (
                "stop Neutron's agent"
                in c.engine.tried(*as_agent, "agent-status").stdout
            ),
            timeout_s=60,
            what="word that Neutron's agent is not needed any more",
            interval_s=0.2,
        )
        theirs.stop()
    c.box.agent.options = {}


def neutrons() -> list[Process]:
    """Return Neutron's haproxies, which go into the background."""
    return [
        one
        for one in processes("haproxy", everywhere=True)
        if "-db" not in one.cmdline
    ]
