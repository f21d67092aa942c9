"""A whole chassis to try the agent on: OVN, Neutron, Nova and instances.

Everything is real but Neutron and Nova, and everything is private:

    PYTHONPATH=tests python -m sandbox.enter python script.py

    with Sandbox() as box:
        network = box.neutron.create_network("n1")
        port = box.neutron.create_port(network)
        box.agent.start()
        box.agent.wait_ready()
        print(box.instance(port).fetch().body)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import host, namespaces
from .agent import Agent
from .daemons import CommandError, run
from .instances import (
    Instance,
    Response,
    attach_all,
    plug_all,
    prepare_all,
    unplug_all,
)
from .loader import Loader
from .model import Network, Port, Router, Subnet
from .neutron import Neutron
from .nova import Nova
from .operations import subnet
from .ovn import Ovn
from .waiting import holds, wait_for

__all__ = [
    "Agent",
    "CommandError",
    "Instance",
    "Loader",
    "Network",
    "Neutron",
    "Nova",
    "Ovn",
    "Port",
    "Response",
    "Router",
    "Sandbox",
    "Subnet",
    "attach_all",
    "holds",
    "inside_sandbox",
    "plug_all",
    "subnet",
    "unplug_all",
    "wait_for",
]

# Of an agent that ran here; the next sandbox in this process starts clean.
_LEFT_BEHIND = (host.HOME, host.LOG_FOLDER, host.CONFIG_FOLDER)
_FLEET_FOLDER = Path("/run/ovn-metadata-fleet")
_VETHS = ("type", "veth")  # whoever has made them


def inside_sandbox() -> bool:
    """Tell whether this process was started by `sandbox.enter`."""
    return host.ENVIRONMENT_MARK in os.environ


class Sandbox:
    """OVN, Neutron, Nova, an agent to start, and the instances."""

    def __init__(
        self,
        *,
        options: Mapping[tuple[str, str], str] | None = None,
        sb_members: int = 1,
    ) -> None:
        if not inside_sandbox():
            raise RuntimeError(
                "not in a sandbox: this would change the real host; run it "
                "by python -m sandbox.enter CMD..."
            )
        # Short: a unix socket's path has 107 bytes. In memory: /run is ours.
        self.folder = Path(tempfile.mkdtemp(prefix="box-", dir="/run"))
        self.folder.chmod(0o755)
        self.ovn = Ovn(self.folder, sb_members=sb_members)
        self.neutron = Neutron(self.ovn)
        self.nova = Nova(self.folder)
        self.agent = Agent(self.folder, self.nova, options=options)
        self.instances: list[Instance] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Sandbox:
        """Start OVN and Nova; the agent waits for `agent.start`."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._clean)
            stack.enter_context(self.ovn)
            stack.enter_context(self.nova)
            stack.callback(self.agent.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, whatever state it is in, and leave nothing."""
        self._stack.close()

    def instance(
        self, port: Port, *, dhcp: bool = False, name: str = ""
    ) -> Instance:
        """Plug an instance for PORT, known to Nova; return when it is up."""
        (made,) = self.plug([port], dhcp=dhcp, name=name)
        return made

    def plug(
        self,
        ports: Iterable[Port],
        *,
        dhcp: bool = False,
        name: str = "",
        wait: bool = True,
    ) -> list[Instance]:
        """Plug instances for PORTS at once, all known to Nova."""
        made = self._new(ports, name)
        plug_all(made, dhcp=dhcp, wait=wait)
        return made

    def prepare(self, ports: Iterable[Port]) -> list[Instance]:
        """Make instances for PORTS, known to Nova: for `attach_all`."""
        made = self._new(ports)
        prepare_all(made)
        return made

    def _new(self, ports: Iterable[Port], name: str = "") -> list[Instance]:
        made = [Instance(self.ovn, port) for port in ports]
        for one in made:
            port = one.port
            self.nova.register(
                port.device_id, port.project_id, name or port.name or "vm"
            )
        self.instances += made
        return made

    def unplug(self, instances: Iterable[Instance]) -> None:
        """Unplug INSTANCES at once."""
        todo = list(instances)
        unplug_all(todo)
        self.instances = [one for one in self.instances if one not in todo]

    def _clean(self) -> None:
        for entry in sorted(namespaces.NETNS_FOLDER.iterdir()):
            with contextlib.suppress(CommandError):
                run("ip", "netns", "delete", entry.name)
        # A namespace outlives its name, and its veth with it, until the kernel
        # has the time, and while a connection in it ends: for two minutes.
        for link in json.loads(run("ip", "-json", "link", "show", *_VETHS)):
            with contextlib.suppress(CommandError):  # it has gone just now
                run("ip", "link", "delete", link["ifname"])
        for folder in _LEFT_BEHIND:
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        shutil.rmtree(_FLEET_FOLDER, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.instances = []
