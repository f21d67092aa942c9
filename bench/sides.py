"""The two agents behind one face, and the chassis they take turns on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ovn_metadata.agent.commands import client
from ovn_metadata.agent.core import health
from sandbox import Sandbox, host, peer, processes, wait_for

STATUS_SOCKET = host.HOME / "ovn-metadata-agent.sock"
OURS = "ours"
THEIRS = "theirs"
READY_TIMEOUT_S = 600.0  # with 400 networks, on a machine with other work


class Side(Protocol):
    """One of the two agents."""

    name: str

    def start(self) -> None:
        """Start it; return at once."""

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""

    def close(self) -> None:
        """End all of it; leave the chassis as if it had never been."""

    def leftovers(self) -> list[str]:
        """Return what there is of any network."""


class Ours:
    """Our agent."""

    name = OURS

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    def start(self) -> None:
        """Start it; return at once."""
        self._box.agent.start()

    def wait_ready(self) -> None:
        """Wait until its status says so, asked on its socket."""

        def ready() -> bool:
            if not self._box.agent.running:
                raise RuntimeError(self._box.agent.log()[-3000:])
            status = client.ask(STATUS_SOCKET, timeout_s=5.0)
            return bool(status["health"] == health.HEALTHY)

        wait_for(ready, timeout_s=READY_TIMEOUT_S, what="agent's status")

    def close(self) -> None:
        """End all of it, its files too."""
        self._box.agent.close()
        peer.remove_traces(self._box.ovn)
        for file in sorted(host.HOME.rglob("*"), reverse=True):
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink()
        for folder in ("programs", "log", "config", "read", "work", "socket"):
            for file in host.FLEET.joinpath(folder).rglob("*"):
                if not file.is_dir():
                    file.unlink()

    def leftovers(self) -> list[str]:
        """Return what there is of any network: the issue's whole list."""
        found = _of_kernel_and_ovs(self._box)
        for folder in (
            host.HOME / "ovn-metadata-proxy",
            host.HOME / "external/pids",
            Path("/run/ovn-metadata-fleet"),
        ):
            found += [
                f"file {file}"
                for file in folder.rglob("????????-????-????-????-*")
            ]
        found += [
            f"haproxy {process.pid}"
            for process in processes.processes("haproxy")
            if not any("gateway" in word for word in process.cmdline)
        ]
        return found


class Theirs:
    """Neutron's agent."""

    name = THEIRS

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._agent = peer.NeutronAgent(box.folder, box.ovn, box.nova)

    def start(self) -> None:
        """Start it; return at once."""
        self._agent.start()

    def wait_ready(self) -> None:
        """Wait until it has registered itself."""
        self._agent.wait_ready(timeout_s=READY_TIMEOUT_S)

    def close(self) -> None:
        """End all of it."""
        self._agent.close()

    def leftovers(self) -> list[str]:
        """Return what there is of any network; it leaves its files."""
        found = _of_kernel_and_ovs(self._box)
        found += [
            f"haproxy {process.pid}"
            for process in processes.processes("haproxy")
        ]
        return found


def both(box: Sandbox) -> tuple[Side, Side]:
    """Return the two sides of BOX."""
    return Ours(box), Theirs(box)


@contextlib.contextmanager
def running(side: Side) -> Iterator[float]:
    """Have SIDE run; give the seconds from its start to its readiness."""
    begun = time.monotonic()
    try:
        side.start()
        side.wait_ready()
        yield time.monotonic() - begun
    finally:
        side.close()


def _of_kernel_and_ovs(box: Sandbox) -> list[str]:
    return [
        *(f"namespace {name}" for name in peer.metadata_namespaces()),
        *(f"veth {name}" for name in peer.metadata_links()),
        *(f"port {name}" for name in peer.metadata_ports(box.ovn)),
    ]
