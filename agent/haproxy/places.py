"""Paths of the haproxies' files, and of their links for Neutron."""

from pathlib import Path

from ...privsep import names, places


class Places(places.Places):
    """The paths of `privsep.places`, and those that only the agent needs."""

    def __init__(
        self, run_dir: Path, state_path: Path, pids_folder: Path
    ) -> None:
        super().__init__(run_dir)
        self.pids_folder = pids_folder  # of links to the PID files
        # Of the configurations of Neutron's agent.
        self.old_folder = state_path / places.OLD_FOLDER
        # Takes the haproxies' log, as it is now.
        own, host = self.request_log, Path("/dev/log")
        self.log = own if own.exists() else host
        # The gateway's map of what the agent has confirmed.
        self.confirmed = self.map(names.GATEWAY)

    def map(self, network: str) -> Path:
        """Path of the map of NETWORK."""
        return self.read_folder(network) / f"{network}.map"

    def stats(self, network: str) -> Path:
        """Path of the stats socket of NETWORK (or gateway)."""
        return self.work_folder(network) / "stats.sock"

    def pid_link(self, network: str) -> Path:
        """Path of the link, named as Neutron's, to NETWORK's PID file."""
        return self.pids_folder / f"{network}.pid.haproxy"

    def is_link_of_ours(self, path: Path) -> bool:
        """Return whether PATH is a link to the gateway's socket."""
        folder = path.readlink().parent if path.is_symlink() else None
        return folder == self.socket_folder
