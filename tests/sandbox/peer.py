"""Run Neutron's own agents here: beside ours, or to be compared with it.

PyPI's neutron-ovn-metadata-agent and neutron-ovn-agent, from a virtual
environment of their own (`python -m sandbox.peer` makes it). They run as
root, which spares them every sudo and rootwrap.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import host, namespaces, ovn
from .agent import Agent, Options, write_ini
from .daemons import Daemon, run
from .nova import Nova
from .ovn import Ovn
from .processes import send_signal
from .waiting import wait_for

ENVIRONMENT = "OVN_METADATA_PEER"  # path of the virtual environment
VERSION = "29.0.0"
REGISTERED = "neutron:ovn-metadata-id"  # in Chassis_Private.external_ids
SUCCESSOR_REGISTERED = "neutron:ovn-neutron-agent-id"
WORKERS = 2

_DEFAULT_PREFIX = Path("/var/tmp/ovn-metadata-agent-neutron")
_INSTALL_TIMEOUT_S = 900
_PROGRAM = "neutron-ovn-metadata-agent"
_SUCCESSOR = "neutron-ovn-agent"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTER_VETH = re.compile(r"tap[0-9a-f-]{10}0")
_NAMESPACE_PREFIX = "ovnmeta-"


def default_prefix() -> Path:
    """Return the virtual environment that the environment names."""
    return Path(os.environ.get(ENVIRONMENT) or _DEFAULT_PREFIX)


def is_installed(prefix: Path) -> bool:
    """Tell whether Neutron's agent is in the virtual environment PREFIX."""
    return (prefix / "bin" / _PROGRAM).exists()


def install(prefix: Path) -> None:
    """Have Neutron's agent in the virtual environment PREFIX."""
    if is_installed(prefix):
        return
    print(f"==> neutron {VERSION} into {prefix}", flush=True)
    pip = (str(prefix / "bin" / "pip"), "install", "--quiet")
    for command in (
        (sys.executable, "-m", "venv", str(prefix)),
        (*pip, "--disable-pip-version-check", f"neutron=={VERSION}"),
    ):
        subprocess.run(command, check=True, timeout=_INSTALL_TIMEOUT_S)


class NeutronAgent:
    """Neutron's agent: its configuration, processes and what it leaves."""

    def __init__(
        self,
        folder: Path,
        chassis: Ovn,
        nova: Nova,
        *,
        prefix: Path | None = None,
        options: Options | None = None,
        shares: Agent | None = None,
        extensions: str = "",
    ) -> None:
        """Have files of its own, or those that it SHARES with ours.

        With EXTENSIONS it is neutron-ovn-agent with these.
        """
        self._shares = shares
        program = _SUCCESSOR if extensions else _PROGRAM
        self.name = program
        self.registered = SUCCESSOR_REGISTERED if extensions else REGISTERED
        self.state_path = host.HOME if shares else folder / "peer"
        self.log_file = folder / "neutron-agent.log"
        self.socket = self.state_path / "metadata_proxy"
        self._prefix = prefix or default_prefix()
        self._config = self.state_path / "agent.ini"
        self._ovn = chassis
        self._nova = nova
        self._options: dict[tuple[str, str], str] = dict(options or {})
        if extensions:
            self._options["agent", "extensions"] = extensions
        self._daemon = Daemon(
            name=program,
            command=(
                str(self._prefix / "bin" / program),
                *(
                    shares.config_arguments()
                    if shares
                    else ("--config-file", str(self._config))
                ),
            ),
            output=self.log_file,
            environment={
                "PATH": f"{self._prefix / 'bin'}:{_PATH}",
                "LANG": "C.UTF-8",
                "HOME": str(self.state_path),
            },
        )

    def __enter__(self) -> NeutronAgent:
        """Start the agent and wait until it is ready."""
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the agent and remove all that it made."""
        self.close()

    @property
    def running(self) -> bool:
        """Whether the agent runs."""
        return self._daemon.running

    @property
    def pid(self) -> int:
        """The process id of the agent."""
        return self._daemon.pid

    def start(self) -> None:
        """Write the configuration and start."""
        if not is_installed(self._prefix):
            raise RuntimeError(
                f"no {self.name} in {self._prefix}: install "
                f"neutron=={VERSION} in a virtual environment and name it in "
                f"{ENVIRONMENT}"
            )
        self.state_path.mkdir(mode=0o755, exist_ok=True)
        if self._shares:
            self._shares.configure(self._options)
        else:
            write_ini(self._config, {**self._defaults(), **self._options})
        sb = self._ovn.daemons.get("sb")
        if sb is None or sb.running:
            self.forget_registration()
        self._daemon.start()

    def wait_ready(self, *, timeout_s: float = 120.0) -> None:
        """Wait until it has registered itself and takes requests."""

        def ready() -> bool:
            if not self._daemon.running:
                raise RuntimeError(f"it ended: {self.log()[-3000:]}")
            return self.registered in self.registration()

        wait_for(ready, timeout_s=timeout_s, what=f"{self.name} that serves")

    def stop(self) -> None:
        """End the agent; its haproxies go on."""
        self._daemon.stop()

    def close(self) -> None:
        """End the agent, its helpers and haproxies; remove what it made."""
        self.stop()
        for pid in self.helpers():
            send_signal(pid, signal.SIGKILL)
        wait_for(
            lambda: not self.helpers(),
            timeout_s=60,
            what=f"end of what {self.name} started",
        )
        remove_traces(self._ovn)
        for file in sorted(self.state_path.rglob("*"), reverse=True):
            if file.is_dir() and not file.is_symlink():
                if not any(file.iterdir()):
                    file.rmdir()
            else:
                file.unlink()

    def helpers(self) -> list[int]:
        """Return the processes that it started: haproxies and privsep."""
        marks = (f"{self.state_path}/".encode(), f"{self._prefix}/".encode())
        found = []
        for entry in Path("/proc").iterdir():
            try:
                cmdline = (entry / "cmdline").read_bytes()
            except (NotADirectoryError, FileNotFoundError):
                continue
            except ProcessLookupError:
                continue
            if (
                any(mark in cmdline for mark in marks)
                and entry.name.isdigit()
                and int(entry.name) != os.getpid()
            ):
                found.append(int(entry.name))
        return found

    def log(self) -> str:
        """Return what it logged."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(errors="replace")

    def registration(self) -> Mapping[str, str]:
        """Return what agents have written of themselves."""
        (row,) = self._ovn.sb.select(
            "Chassis_Private",
            [["name", "==", self._ovn.system_id]],
            ["external_ids"],
        )
        ids: Mapping[str, str] = row["external_ids"]
        return ids

    def forget_registration(self) -> None:
        """Have the next registration show that this one started."""
        self._ovn.sbctl(
            *("--if-exists", "remove", "Chassis_Private"),
            *(self._ovn.system_id, "external_ids", f'"{self.registered}"'),
        )

    def _defaults(self) -> Options:
        state = str(self.state_path)
        return {
            ("DEFAULT", "host"): self._ovn.hostname,
            ("DEFAULT", "state_path"): state,
            ("DEFAULT", "use_stderr"): "true",
            ("DEFAULT", "metadata_workers"): str(WORKERS),
            ("DEFAULT", "nova_metadata_host"): self._nova.address,
            ("DEFAULT", "nova_metadata_port"): str(self._nova.port),
            ("DEFAULT", "metadata_proxy_shared_secret"): self._nova.secret,
            ("oslo_concurrency", "lock_path"): f"{state}/lock",
            # Empty would mean sudo to oslo.privsep; env costs 1 ms.
            ("AGENT", "root_helper"): "env",
            ("ovs", "ovsdb_connection"): ovn.OVS_REMOTE,
            ("ovn", "ovn_sb_connection"): ovn.SB_REMOTE,
            ("ovn", "ovn_nb_connection"): ovn.NB_REMOTE,
        }


def metadata_ports(chassis: Ovn) -> list[str]:
    """Return the ports of metadata namespaces in Open vSwitch."""
    rows = chassis.ovs.select("Interface", (), ["name", "external_ids"])
    return [
        str(row["name"])
        for row in rows
        if _OUTER_VETH.fullmatch(str(row["name"]))
        and "vm-uuid" not in row["external_ids"]
    ]


def metadata_links() -> list[str]:
    """Return the veths of metadata namespaces, outer ends.

    An instance's may be named alike, with its namespace named after it.
    """
    names = [entry.name for entry in Path("/sys/class/net").iterdir()]
    return [
        name
        for name in names
        if _OUTER_VETH.fullmatch(name)
        and not (
            namespaces.NETNS_FOLDER / f"vm-{name.removeprefix('tap')}"
        ).exists()
    ]


def metadata_namespaces() -> list[str]:
    """Return the namespaces of metadata agents, broken ones too."""
    names = [entry.name for entry in namespaces.NETNS_FOLDER.iterdir()]
    return [name for name in names if name.startswith(_NAMESPACE_PREFIX)]


def remove_traces(chassis: Ovn) -> None:
    """Remove what an agent, either of the two, left of its networks.

    Its haproxies have ended. Instances' ports stay.
    """
    command: list[str] = []
    for port in metadata_ports(chassis):
        command += ["--", "--if-exists", "del-port", port]
    if command:
        chassis.vsctl(*command[1:])
    for link in metadata_links():
        run("ip", "link", "delete", link)
    for namespace in metadata_namespaces():
        run("ip", "netns", "delete", namespace)


def idle_haproxy(bind: str) -> str:
    """Return the configuration of a haproxy as that agent leaves one.

    It detaches, listens on BIND and answers 503.
    """
    return f"""
global
    daemon
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
listen listener
    bind {bind}
    http-request return status 503
"""


if __name__ == "__main__":
    install(default_prefix())
