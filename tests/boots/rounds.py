"""Play one release's rounds with one agent; inside a sandbox.

A line of JSON on stdout for each boot. Logs of boots that are lost, and of
the agent and its haproxies then, are in the folder LOGS.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox import Instance, Network, Sandbox, host
from sandbox.case import wait_served
from sandbox.instances import attach_all, make_links

from .guest import Boot, Outcome
from .lottery import Round, Ticket, draw
from .outages import OURS, Side, outage

V4, BOTH = ("10.10.0.0/16",), ("10.20.0.0/16", "2001:db8:20::/64")


@dataclasses.dataclass
class Chassis:
    """Two networks that are served, with and without IPv6."""

    side: Side
    lower: str
    served: dict[bool, Network]

    @property
    def box(self) -> Sandbox:
        """The sandbox."""
        return self.side.box

    def play(self, given: Round) -> list[tuple[Ticket, Outcome]]:
        """Have the boots of GIVEN meet its outage."""
        box = self.box
        networks = [self._network(ticket) for ticket in given.tickets]
        with outage(given.outage, self.side):
            instances = self._plug(networks)
            boots = [Boot(i, self.lower, box.folder) for i in instances]
            for boot, ticket in zip(boots, given.tickets, strict=True):
                boot.start(delay_s=ticket.delay_s)
        outcomes = [boot.wait() for boot in boots]
        self.side.agent.wait_ready()
        return list(zip(given.tickets, outcomes, strict=True))

    def clear(self) -> None:
        """Remove what the last round left: instances, their networks."""
        box = self.box
        kept = {network.id for network in self.served.values()}
        asks = {i for i in box.instances if i.port.name == "boot"}
        box.unplug(asks)
        for instance in asks:
            network = instance.port.network
            box.neutron.delete_port(instance.port)
            if network.id not in kept:
                box.neutron.delete_network(network)

    def _network(self, ticket: Ticket) -> Network:
        if not ticket.first:
            return self.served[ticket.both]
        subnets = BOTH if ticket.both else V4
        return self.box.neutron.create_network(
            "first", subnets=subnets, gateway=False
        )

    def _plug(self, networks: Sequence[Network]) -> list[Instance]:
        """Plug a port of each of NETWORKS; it has no addresses inside yet."""
        box = self.box
        ports = [box.neutron.create_port(n, name="boot") for n in networks]
        for port in ports:
            box.nova.register(port.device_id, port.project_id, "boot")
        made = [Instance(box.ovn, port) for port in ports]
        box.instances += made
        make_links(made)
        attach_all(made)
        box.ovn.wait_installed(port.id for port in ports)
        return made


def make_chassis(side: Side, lower: str) -> Chassis:
    """Start the agent of SIDE and have two networks served."""
    side.agent.start()
    side.agent.wait_ready()
    served = {}
    for both, subnets in ((False, V4), (True, BOTH)):
        network = side.box.neutron.create_network(
            "served", subnets=subnets, gateway=False
        )
        port = side.box.neutron.create_port(network)
        wait_served(side.box.instance(port), timeout_s=60)
        served[both] = network
    return Chassis(side, lower, served)


def main() -> None:
    """Play what the command line says."""
    parser = argparse.ArgumentParser(prog="boots.rounds", description=__doc__)
    parser.add_argument("agent")
    parser.add_argument("lower")
    parser.add_argument("--boots", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--longest", type=float, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    given = parser.parse_args()
    with Sandbox() as box:
        side = Side(box, given.agent, longest_s=given.longest)
        try:
            side.build_release()
            chassis = make_chassis(side, given.lower)
            for number, each in enumerate(draw(given.seed, given.boots)):
                begun = time.time()
                outcomes = chassis.play(each)
                for place, (ticket, outcome) in enumerate(outcomes):
                    name = f"{number}-{place}-{each.outage}"
                    print(json.dumps(_line(each, ticket, outcome, begun)))
                    if not outcome.found:
                        _keep(given.logs / name, outcome, box, given.agent)
                sys.stdout.flush()
                chassis.clear()
        finally:
            side.close()


def _line(
    given: Round, ticket: Ticket, outcome: Outcome, begun: float
) -> dict[str, object]:
    return {
        "outage": given.outage,
        **dataclasses.asdict(ticket),
        "found": outcome.found,
        "seconds": outcome.seconds,
        "begun_s": outcome.begun - begun,
        "local_s": outcome.local - outcome.begun,
    }


def _keep(folder: Path, outcome: Outcome, box: Sandbox, agent: str) -> None:
    """Keep in FOLDER what says why a boot was lost."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cloud-init.log").write_text(outcome.log)
    shutil.copy(box.ovn.folder / "ovn-controller.log", folder)
    if agent == OURS:
        (folder / "agent.log").write_text(box.agent.log()[-200_000:])
        shutil.copytree(host.FLEET / "log", folder / "fleet")
    else:
        log = (box.folder / "neutron-agent.log").read_text(errors="replace")
        (folder / "agent.log").write_text(log[-200_000:])


if __name__ == "__main__":
    main()
