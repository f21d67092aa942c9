"""Paths of the haproxies' files, and of their links for Neutron."""

from pathlib import Path

from ...privsep import names, places


class Places(places.Places):
    """The paths of `privsep.places`, and those below state_path."""

    def __init__(
        self, run_dir: Path, state_path: Path, pids_folder: Path
    ) -> None:
        super().__init__(run_dir)
        self.pids_folder = pids_folder  # of links to the PID files
        # Of the configurations of Neutron's agent.
        self.old_folder = state_path / places.OLD_FOLDER
        self.log = Path("/dev/log")  # takes the haproxies' log

    def pid_link(self, network: str) -> Path:
        """Return the path of the link to NETWORK's (or gateway's) PID file."""
        return self.pids_folder / names.pid_file(network)

    def is_link_of_ours(self, path: Path) -> bool:
        """Return whether PATH is a link to the gateway's socket."""
        folder = path.readlink().parent if path.is_symlink() else None
        return folder == self.socket_folder
