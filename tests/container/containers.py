"""The two containers on the sandbox's chassis, and who asks them."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sandbox import Instance, Loader, Sandbox, host, syslog, wait_for
from sandbox.daemons import run

from .engine import QUADLET, Engine, read_unit, run_arguments

AGENT, FLEET = "ovn-metadata-agent", "ovn-metadata-fleet"
SERVICE_ID = 42435  # as the Containerfile has it
RUN_DIR = Path("/run/ovn-metadata-fleet")
READY_S = 90.0


class HostLog:
    """What takes the place of the host's journal, at /dev/log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = syslog.listen()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Take all there is: who logs waits where nobody does."""
        while True:
            self.lines.append(self._socket.recv(65536).decode())


class Containers:
    """The two containers of IMAGE on the chassis of BOX.

    KOLLA is an environment with kolla-ansible, KOLLA_IMAGE what is built as
    Kolla builds images.
    """

    def __init__(
        self,
        box: Sandbox,
        engine: Engine,
        image: str,
        *,
        kolla: Path,
        kolla_image: str,
    ) -> None:
        self.box, self.engine, self.image = box, engine, image
        self.kolla, self.kolla_image = kolla, kolla_image
        self.log = HostLog()
        self.units = {
            name: read_unit(QUADLET / f"{name}.container")
            for name in (AGENT, FLEET)
        }
        network = box.neutron.create_network("n", subnets=["10.10.0.0/24"])
        self.ports = [box.neutron.create_port(network) for _ in range(2)]
        # Whose health checks say whether all is ready.
        self.checked = [AGENT]
        self.netns = Path("/run/netns", network.namespace)

    @property
    def instances(self) -> list[Instance]:
        """The instances that are plugged."""
        return self.box.instances

    def prepare(self) -> None:
        """Have the host as before there ever was a container."""
        self.checked = [AGENT]
        self.engine.remove_all()
        if self.instances:
            self.box.unplug(self.instances)
        if self.netns.exists():
            run("ip", "netns", "delete", self.netns.name)
        for folder in (RUN_DIR, host.HOME, host.CONFIG_FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        os.chown(host.HOME, SERVICE_ID, SERVICE_ID)
        self.box.agent.configure()
        for file in host.CONFIG_FOLDER.iterdir():
            os.chown(file, 0, SERVICE_ID)

    def start(self, name: str, **how: object) -> None:
        """Start NAME as its Quadlet file says, but for HOW."""
        arguments = run_arguments(self.units[name], image=self.image, **how)
        self.engine.run("run", *arguments)

    def start_both(self, kept: Mapping[str, Iterable[str]] = {}) -> None:
        """Start the fleet and the agent; with KEPT capabilities instead."""
        for name in (FLEET, AGENT):
            self.start(name, kept=kept.get(name))

    def health(self, name: str) -> int:
        """Return the exit code of the health check of NAME."""
        return self.engine.tried("healthcheck", "run", name).returncode

    def ready(self) -> bool:
        """Tell whether the health checks say that all is served."""
        return all(self.health(name) == 0 for name in self.checked)

    def wait_served(self, *, timeout_s: float = READY_S) -> None:
        """Plug the instances and wait until each has its metadata."""
        if not self.instances:
            self.box.plug(self.ports)

        def served() -> bool:
            answers = [vm.fetch(timeout=2) for vm in self.instances]
            return self.ready() and all(a.status == 200 for a in answers)

        wait_for(served, timeout_s=timeout_s, what="metadata", interval_s=0.2)

    @contextlib.contextmanager
    def load(self, what: str) -> Iterator[Loader]:
        """Ask all the time until all is served again; say what came of it."""
        with Loader(self.instances, rate=40, timeout_s=5) as loader:
            wait_for(
                lambda: loader.requests > 20, timeout_s=5, what="requests"
            )
            yield loader
            self.wait_served()
        print(
            f"{what}: {loader.requests} requests, {len(loader.failures)} "
            f"failed, longest gap {loader.longest_gap_s * 1000:.0f} ms",
            flush=True,
        )

    @contextlib.contextmanager
    def undisturbed(self, what: str) -> Iterator[None]:
        """Hold that no request fails meanwhile."""
        with self.load(what) as loader:
            yield
        assert not loader.failures, loader.failures[:3]
