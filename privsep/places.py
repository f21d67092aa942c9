"""Where the haproxies' files and sockets are, and who may get at them.

Both sides must agree on that, so it is written once. All of it is below
state_path, in folders of the agent's that the daemon gives to a group:

    ovn-metadata-proxy/            all haproxies:  to be read
        <network>.conf, gateway.conf
        <network>/<network>.map    that network's: to be read
        gateway/nova-*.pem         the gateway:    to be read
        run/<network>/             that network's: its stats socket, its PID
        run/gateway/               the gateway:    the same
        socket/metadata_proxy-...  the gateway:    made there, for others too

So a haproxy that was broken into finds the configurations, which have no
secret, and what is its own. Others may pass through, no more.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from pathlib import Path

from . import names


class Group(enum.Enum):
    """Whose a folder is, beside the agent's."""

    ALL = "all"  # every haproxy's
    OWN = "own"  # the one haproxy's


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """A folder that the agent shares."""

    path: Path
    group: Group
    mode: int  # with the set-group-id bit where files are made for the group


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """The paths of the haproxies of an agent, each by network or gateway.

    The haproxies have their own folder below `run` as working folder: by
    relative names, a long state_path leaves the sockets' short enough.
    """

    state_path: Path

    @property
    def config_folder(self) -> Path:
        """Folder of the configurations, and of all the rest."""
        return self.state_path / "ovn-metadata-proxy"

    @property
    def run_folder(self) -> Path:
        """Folder of the haproxies' working folders."""
        return self.config_folder / "run"

    @property
    def socket_folder(self) -> Path:
        """Folder of the gateway's socket for everybody."""
        return self.config_folder / "socket"

    def read_folder(self, network: str) -> Path:
        """Folder of what NETWORK's haproxy (or the gateway) alone reads."""
        return self.config_folder / network

    def work_folder(self, network: str) -> Path:
        """Working folder of the haproxy of NETWORK (or gateway)."""
        return self.run_folder / network

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

    def folders(self, network: str) -> tuple[Folder, ...]:
        """Return what NETWORK's haproxy (or the gateway) needs, in order."""
        common = (
            Folder(self.config_folder, Group.ALL, 0o2751),
            Folder(self.run_folder, Group.ALL, 0o711),
            Folder(self.read_folder(network), Group.OWN, 0o2750),
            Folder(self.work_folder(network), Group.OWN, 0o2770),
        )
        if network != names.GATEWAY:
            return common
        return (
            *common,
            Folder(self.socket_folder, Group.OWN, 0o2771),
        )
