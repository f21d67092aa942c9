"""A real OVN and OVS on the loopback: one chassis, userspace datapath.

Sockets are at their usual places (/run/openvswitch, /run/ovn), so that
`ovs-vsctl show` and `ovn-sbctl list Port_Binding` work inside the sandbox.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import ovsdb
from .daemons import Daemon, run, succeeds
from .southbound import Southbound, daemons
from .waiting import wait_for

HOSTNAME = "compute-1.example"
OVS_RUN = Path("/run/openvswitch")
OVN_RUN = Path("/run/ovn")
OVS_SOCKET = OVS_RUN / "db.sock"
NB_SOCKET = OVN_RUN / "ovnnb_db.sock"
OVS_REMOTE = "tcp:127.0.0.1:6640"
NB_REMOTE = "tcp:127.0.0.1:6641"
SB_REMOTE = "tcp:127.0.0.1:6642"
BRIDGE = "br-int"

_SCHEMAS = Path("/usr/share")


class Ovn:
    """OVS, the two OVN databases, northd and one chassis.

    FOLDER holds databases and logs; SYSTEM_ID is the chassis' name;
    SB_MEMBERS is how many servers the Southbound database has. `daemons`
    are in the order of starting; the servers of a Southbound cluster are
    sb1, sb2, ..., a single one is sb.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hostname: str = HOSTNAME,
        system_id: str = "",
        sb_members: int = 1,
    ) -> None:
        self.folder = folder
        self.hostname = hostname
        self.system_id = system_id or str(uuid.uuid4())
        self.bridge = BRIDGE
        self.encap_ip = "127.0.0.1"
        self.nb = ovsdb.Ovsdb(NB_SOCKET, "OVN_Northbound")
        self.southbound = Southbound(folder, OVN_RUN, count=sb_members)
        first = self.southbound.members[0]
        self.sb = ovsdb.Ovsdb(first.socket, "OVN_Southbound")
        self.ovs = ovsdb.Ovsdb(OVS_SOCKET, "Open_vSwitch")
        self.daemons = {daemon.name: daemon for daemon in self._make_daemons()}

    def __enter__(self) -> Ovn:
        """Start everything; return once the chassis answers."""
        try:
            self._create_databases()
            for name in self.daemons:
                if name not in ("northd", "ovn-controller"):
                    self.start(name)
            self.southbound.wait_joined()
            self.nbctl("init")
            self.sbctl("init")
            self.vsctl("--no-wait", "init")
            self._configure_chassis()
            self.start("northd")
            self.start("ovn-controller")
            wait_for(
                lambda: self.sb.select(
                    "Chassis_Private", [["name", "==", self.system_id]]
                ),
                timeout_s=60,
                what=f"chassis {self.system_id} in the Southbound database",
            )
            self.sync()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self.close()

    def close(self) -> None:
        """Kill every daemon: nothing of their state is wanted any more."""
        for daemon in reversed(self.daemons.values()):
            daemon.kill()

    # -- daemons ----------------------------------------------------------

    def start(self, name: str) -> None:
        """Start the daemon NAME and wait until it listens."""
        self.daemons[name].start()

    def stop(self, name: str) -> None:
        """Stop the daemon NAME as its service would."""
        self.daemons[name].stop()

    def kill(self, name: str) -> None:
        """Kill the daemon NAME with SIGKILL."""
        self.daemons[name].kill()

    def restart(self, name: str) -> None:
        """Stop and start the daemon NAME as its package's upgrade does."""
        if name == "ovn-controller":
            # A plain stop means the chassis goes: flows and row as well.
            ends = ("ovn-appctl", "-t", name, "exit", "--restart")
            wait_for(
                lambda: succeeds(*ends),
                timeout_s=60,
                what="an ovn-controller that listens",
            )
            self.daemons[name].wait()
        else:
            self.stop(name)
        self.start(name)

    def replace_southbound(self, *, clustered: bool = False) -> None:
        """Start the Southbound server on a new, empty database.

        CLUSTERED makes it the first and only member of a new cluster. Who
        knew an older one is started again: northd and ovn-controller would
        refuse it for having seen more.
        """
        self.freeze("ovn-controller")  # it dies of one without SB_Global
        self.stop("sb")
        self.southbound.create(clustered=clustered)
        self.start("sb")
        self.sbctl("init")
        self.thaw("ovn-controller")
        if clustered:
            self.restart("northd")
            self.restart("ovn-controller")

    def freeze(self, name: str) -> None:
        """Stop the daemon NAME in its tracks: it hangs, sockets open."""
        self.daemons[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen daemon go on."""
        self.daemons[name].signal(signal.SIGCONT)

    # -- commands ---------------------------------------------------------

    def nbctl(self, *args: str, timeout_s: int = 60) -> str:
        """Run ovn-nbctl; CommandError says what it said."""
        where = f"--db=unix:{NB_SOCKET}"
        return run("ovn-nbctl", where, f"--timeout={timeout_s}", *args)

    def sbctl(self, *args: str, timeout_s: int = 60) -> str:
        """Run ovn-sbctl; CommandError says what it said."""
        where = f"--db={self._sb_remote}"
        return run("ovn-sbctl", where, f"--timeout={timeout_s}", *args)

    def vsctl(self, *args: str, timeout_s: int = 60) -> str:
        """Run ovs-vsctl; CommandError says what it said."""
        where = f"--db=unix:{OVS_SOCKET}"
        return run("ovs-vsctl", where, f"--timeout={timeout_s}", *args)

    def sync(self, *, timeout_s: int = 60) -> None:
        """Return once the chassis has done what Northbound asks now."""
        self.nbctl("--wait=hv", "sync", timeout_s=timeout_s)

    def wait_installed(
        self, ports: Iterable[str], *, timeout_s: float = 60.0
    ) -> None:
        """Wait until OVN has the flows of PORTS (logical names) in place."""
        wanted = set(ports)
        wait_for(
            lambda: wanted <= self._installed(),
            timeout_s=timeout_s,
            what=f"ovn-installed for {len(wanted)} ports",
        )

    def _installed(self) -> set[str]:
        rows = self.ovs.select(
            "Interface",
            [
                [
                    "external_ids",
                    "includes",
                    ovsdb.to_map({"ovn-installed": "true"}),
                ]
            ],
            ["external_ids"],
        )
        return {str(row["external_ids"].get("iface-id")) for row in rows}

    # -- setting up -------------------------------------------------------

    @property
    def _sb_remote(self) -> str:
        """How what is no part of the chassis reaches Southbound."""
        members = self.southbound.members
        return ",".join(f"unix:{member.socket}" for member in members)

    def _create_databases(self) -> None:
        for folder in (self.folder, OVS_RUN, OVN_RUN):
            folder.mkdir(parents=True, exist_ok=True)
        for file, schema in (
            ("ovs.db", "openvswitch/vswitch.ovsschema"),
            ("nb.db", "ovn/ovn-nb.ovsschema"),
        ):
            database = self.folder / file
            database.unlink(missing_ok=True)
            run("ovsdb-tool", "create", str(database), str(_SCHEMAS / schema))
        self.southbound.create()

    def _configure_chassis(self) -> None:
        settings = {
            "system-id": self.system_id,
            "hostname": self.hostname,
            "ovn-remote": self.southbound.remote,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": self.encap_ip,
            "ovn-bridge": self.bridge,
            "ovn-bridge-datapath-type": "netdev",
        }
        pairs = [f"external_ids:{k}={v}" for k, v in settings.items()]
        self.vsctl(
            *("set", "Open_vSwitch", ".", *pairs),
            *("--", "add-br", self.bridge),
            *("--", "set", "Bridge", self.bridge),
            *("datapath_type=netdev", "fail_mode=secure"),
        )

    def _make_daemons(self) -> Sequence[Daemon]:
        def server(name: str, file: str, where: Path, port: int) -> Daemon:
            control = where.parent / f"{name}.ctl"
            return self._daemon(
                name,
                "ovsdb-server",
                f"--remote=punix:{where}",
                f"--remote=ptcp:{port}:127.0.0.1",
                f"--unixctl={control}",
                str(self.folder / file),
                ready=where,
            )

        ovs = f"unix:{OVS_SOCKET}"
        switch_control = OVS_RUN / "ovs-vswitchd.ctl"
        northd_control = OVN_RUN / "ovn-northd.ctl"
        return (
            server("ovsdb-server", "ovs.db", OVS_SOCKET, 6640),
            self._daemon(
                "ovs-vswitchd",
                "ovs-vswitchd",
                f"--unixctl={switch_control}",
                f"--pidfile={OVS_RUN / 'ovs-vswitchd.pid'}",
                "--disable-system",
                ovs,
                ready=switch_control,
            ),
            server("nb", "nb.db", NB_SOCKET, 6641),
            *daemons(self.southbound, self._daemon),
            self._daemon(
                "northd",
                "ovn-northd",
                # 26.03.0 and 26.03.1 abort when they hear at once of a
                # network that went and of a new one.
                "--monitor",
                f"--unixctl={northd_control}",
                f"--ovnnb-db=unix:{NB_SOCKET}",
                f"--ovnsb-db={self._sb_remote}",
                ready=northd_control,
                monitored=True,
            ),
            self._daemon(
                "ovn-controller",
                "ovn-controller",
                # It takes no --unixctl; its PID file leads to the socket.
                f"--pidfile={OVN_RUN / 'ovn-controller.pid'}",
                ovs,
            ),
        )

    def _daemon(
        self,
        name: str,
        *command: str,
        ready: Path | None = None,
        monitored: bool = False,
    ) -> Daemon:
        log = self.folder / f"{name}.log"
        quiet = ("-vconsole:off", f"--log-file={log}")
        program, *rest = command
        return Daemon(
            name=name,
            command=(program, *quiet, *rest),
            output=self.folder / f"{name}.out",
            ready=ready,
            monitored=monitored,
        )
