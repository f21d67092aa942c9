"""Where the haproxies' files and sockets are, and who has access to them.

The agent and the daemon must agree on this, so it is written once. All of it
is below the fleet's run folder and not in state_path: maps hold signatures,
and state_path is copied into support bundles. Root makes each folder, in a
folder that root owns, and gives it to the agent's user and to a group:

    path                                 group           what the group does
    config/<network>.conf, gateway.conf  all haproxies   reads
    read/<network>/<network>.map         that network's  reads
    read/gateway/nova-*.pem              the gateway     reads
    work/<network>/                      that network's  makes its stats socket
    work/gateway/                        the gateway     makes its stats socket
    socket/metadata_proxy                the gateway     makes it, for others

A haproxy that was broken into can read the configurations, which hold no
secret, and its own files. Other users can only pass through the folders.
"""

import dataclasses
import stat
from pathlib import Path

# Below state_path: Neutron's haproxies have their configurations there.
OLD_FOLDER = "ovn-metadata-proxy"


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """A folder that the agent owns and shares with a group."""

    path: Path
    gid: int
    mode: int  # set-group-id, so that files get the folder's group

    def is_made(self, uid: int) -> bool:
        """Return whether it exists with this group and mode, owned by UID."""
        try:
            entry = self.path.lstat()
        except (FileNotFoundError, PermissionError):  # or in a closed folder
            return False
        return (entry.st_uid, entry.st_gid, entry.st_mode) == (
            uid,
            self.gid,
            stat.S_IFDIR | self.mode,
        )


class Places:
    """The paths of the fleet; the haproxies' by network or gateway.

    A haproxy's working folder is its own one below `work`: it uses relative
    names, because a socket's absolute name could be too long.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        # Only root uses these, except the PID file, the agent's lock and the
        # request log.
        self.socket = run_dir / "supervisord.sock"  # its RPC
        self.supervisord_conf = run_dir / "supervisord.conf"
        self.supervisord_pid = run_dir / "supervisord.pid"
        self.start_lock = run_dir / "start.lock"  # of who starts supervisord
        self.programs = run_dir / "programs"  # files that supervisord includes
        self.logs = run_dir / "log"  # what supervisord and the programs print
        self.agent_lock = run_dir / "agent.lock"  # of the one agent here
        self.request_log = run_dir / "requests.sock"  # without a /dev/log
        # The networks' haproxies reach the gateway through it.
        self.gateway_socket = run_dir / "gateway.sock"
        # The parents, owned by root, of the networks' own folders.
        self.network_parents = (run_dir / "read", run_dir / "work")
        self.config_folder = run_dir / "config"
        self.socket_folder = run_dir / "socket"
        # For everybody; metadata_proxy_socket links to it.
        self.public_socket = self.socket_folder / "metadata_proxy"

    def read_folder(self, network: str) -> Path:
        """Folder that only NETWORK's haproxy (or the gateway) reads."""
        return self.network_parents[0] / network

    def work_folder(self, network: str) -> Path:
        """Working folder of the haproxy of NETWORK (or gateway)."""
        return self.network_parents[1] / network

    def config(self, network: str) -> Path:
        """Path of the configuration of NETWORK (or gateway)."""
        return self.config_folder / f"{network}.conf"

    def program(self, network: str) -> Path:
        """Path of the file of the program of NETWORK (or gateway)."""
        return self.programs / f"{network}.ini"

    def pid(self, network: str) -> Path:
        """Path of the PID file, owned by root, of NETWORK (or gateway)."""
        return self.network_parents[1] / f"{network}.pid"
