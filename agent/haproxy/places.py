"""Where the haproxies' files are: the shared ones, and Neutron's names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...privsep import names, places


@dataclasses.dataclass(frozen=True, slots=True)
class Places(places.Places):
    """The shared places, and those that Neutron knows below state_path."""

    state_path: Path
    pids_folder: Path  # of links to the PID files

    def pid_link(self, network: str) -> Path:
        """Path that leads to the PID file of NETWORK (or gateway)."""
        return self.pids_folder / names.pid_file(network)

    @property
    def old_folder(self) -> Path:
        """Folder of Neutron's configurations, and of our older versions'."""
        return self.state_path / places.OLD_FOLDER

    @property
    def old_socket_folder(self) -> Path:
        """Folder of the older versions' gateway's socket for everybody."""
        return self.old_folder / "socket"

    @property
    def old_folders(self) -> tuple[Path, ...]:
        """The older versions' folders that are of no network."""
        return self.old_folder / "run", self.old_socket_folder, self.old_folder

    def is_link_of_ours(self, path: Path) -> bool:
        """Tell whether PATH is a link to the gateway's socket."""
        ours = (self.socket_folder, self.old_socket_folder)
        return path.is_symlink() and path.readlink().parent in ours
