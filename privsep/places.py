"""Where the haproxies' files and sockets are, and who may get at them.

Both sides must agree on that, so it is written once. All of it is below the
fleet's run folder: maps hold signatures, and state_path is copied into
support bundles. Root makes the folders, in folders of its own, and gives
them to the agent's user and to a group:

    config/<network>.conf, gateway.conf  all haproxies:  to be read
    read/<network>/<network>.map         that network's: to be read
    read/gateway/nova-*.pem              the gateway:    to be read
    work/<network>/                      that network's: stats socket, PID
    work/gateway/                        the gateway:    the same
    socket/metadata_proxy-...            the gateway:    made for others

So a haproxy that was broken into finds the configurations, which have no
secret, and what is its own. Others may pass through, no more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from pathlib import Path

from . import names

# Below state_path: Neutron's haproxies have their configurations there, and
# those of this agent's versions before had all of the above.
OLD_FOLDER = "ovn-metadata-proxy"


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the agent's that it shares with a group."""

    path: Path
    gid: int
    mode: int  # with the set-group-id bit where files are made for the group

    def is_made(self, uid: int) -> bool:
        """Tell whether it is there as it should be, and UID's."""
        try:
            entry = self.path.lstat()
        except FileNotFoundError:
            return False
        return (entry.st_uid, entry.st_gid, entry.st_mode) == (
            uid,
            self.gid,
            stat.S_IFDIR | self.mode,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """The paths of the haproxies, each by network or gateway.

    A haproxy has its own folder below `work` as working folder: by relative
    names, a long run folder leaves the sockets' names short enough.
    """

    run_dir: Path

    @property
    def config_folder(self) -> Path:
        """Folder of the configurations."""
        return self.run_dir / "config"

    @property
    def socket_folder(self) -> Path:
        """Folder of the gateway's socket for everybody."""
        return self.run_dir / "socket"

    @property
    def network_parents(self) -> tuple[Path, Path]:
        """Root's folders that have a folder of each network in them."""
        return self.run_dir / "read", self.run_dir / "work"

    def read_folder(self, network: str) -> Path:
        """Folder of what NETWORK's haproxy (or the gateway) alone reads."""
        return self.network_parents[0] / network

    def work_folder(self, network: str) -> Path:
        """Working folder of the haproxy of NETWORK (or gateway)."""
        return self.network_parents[1] / network

    def config(self, network: str) -> Path:
        """Path of the configuration of NETWORK (or gateway)."""
        return self.config_folder / names.config_file(network)

    def map(self, network: str) -> Path:
        """Path of the map of NETWORK."""
        return self.read_folder(network) / names.map_file(network)

    def certificate(self, kind: str, text: str) -> Path:
        """Path of the PEM file of KIND with TEXT.

        Another text has another name: a reload is due then.
        """
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.read_folder(names.GATEWAY) / f"nova-{kind}-{digest}.pem"

    def pid(self, network: str) -> Path:
        """Path of the PID file of NETWORK (or gateway)."""
        return self.work_folder(network) / "haproxy.pid"

    def stats(self, network: str) -> Path:
        """Path of the stats socket of NETWORK (or gateway)."""
        return self.work_folder(network) / "stats.sock"

    def public_socket(self, *, mode: str, backlog: int) -> Path:
        """Path of the gateway's socket that metadata_proxy_socket leads to."""
        return self.socket_folder / names.public_socket(
            mode=mode, backlog=backlog
        )

    def folders(
        self, network: str, *, own: int, common: int
    ) -> tuple[Folder, ...]:
        """Return the folders that NETWORK's haproxy (or the gateway) needs.

        OWN is its own group, COMMON the one that all haproxies are in.
        """
        needed = (
            Folder(self.config_folder, common, 0o2750),
            Folder(self.read_folder(network), own, 0o2750),
            Folder(self.work_folder(network), own, 0o2770),
        )
        if network != names.GATEWAY:
            return needed
        return (*needed, Folder(self.socket_folder, own, 0o2771))
