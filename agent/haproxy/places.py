"""Paths of the haproxies' files, and of their links for Neutron."""

import dataclasses
from pathlib import Path

from ...privsep import names, places


@dataclasses.dataclass(frozen=True, slots=True)
class Places(places.Places):
    """The paths of `privsep.places`, and those below state_path."""

    state_path: Path
    pids_folder: Path  # of links to the PID files
    log: Path = Path("/dev/log")  # takes the haproxies' log

    def pid_link(self, network: str) -> Path:
        """Return the path of the link to NETWORK's (or gateway's) PID file."""
        return self.pids_folder / names.pid_file(network)

    @property
    def old_folder(self) -> Path:
        """Folder of the configurations of Neutron's agent."""
        return self.state_path / places.OLD_FOLDER

    def is_link_of_ours(self, path: Path) -> bool:
        """Return whether PATH is a link to the gateway's socket."""
        folder = path.readlink().parent if path.is_symlink() else None
        return folder == self.socket_folder
