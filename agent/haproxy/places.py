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
        """Folder of configurations: of Neutron's agent and older versions."""
        return self.state_path / places.OLD_FOLDER

    @property
    def old_socket_folder(self) -> Path:
        """Folder of the public socket of older versions' gateways."""
        return self.old_folder / "socket"

    @property
    def old_folders(self) -> tuple[Path, ...]:
        """The older versions' folders that belong to no single network."""
        return self.old_folder / "run", self.old_socket_folder, self.old_folder

    def is_link_of_ours(self, path: Path) -> bool:
        """Return whether PATH is a link to the gateway's socket."""
        ours = (self.socket_folder, self.old_socket_folder)
        return path.is_symlink() and path.readlink().parent in ours
