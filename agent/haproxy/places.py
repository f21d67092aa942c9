"""Where the haproxies' files are: the shared ones, and Neutron's names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...privsep import places
from .. import names


@dataclasses.dataclass(frozen=True, slots=True)
class Places(places.Places):
    """The shared places, and the folder of PID files that Neutron knows."""

    pids_folder: Path

    def pid_link(self, network: str) -> Path:
        """Path that leads to the PID file of NETWORK (or gateway)."""
        return self.pids_folder / names.pid_file(network)
