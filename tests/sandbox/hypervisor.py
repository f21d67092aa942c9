"""A second hypervisor: a host of its own, on a wire to the first one.

It has its own network, mount and PID namespaces (`sandbox.enter` within the
sandbox), Open vSwitch, ovn-controller, Nova and agent. The databases are those
of the first host; on the way to Southbound everything may be delayed, and go
by ssl. Geneve goes from one Open vSwitch to the other. The test tells it by
name what to do:

    with Hypervisor(box) as far:
        far.do("agent.start")
        far.do("plug_ports", [port])
        far.do("wait_served", port)
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.connection
import os
import socket
import struct
import subprocess
import sys
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import (
    Instance,
    Loader,
    Network,
    Port,
    Sandbox,
    case,
    host,
    hoststate,
)
from .daemons import Daemon, run
from .instances import INNER
from .ovn import OVN_RUN, Ovn
from .southbound import CLIENT_PORT
from .tls import Authority
from .waiting import wait_for

HOSTNAME = "compute-2.example"
NEAR, FAR = "192.0.2.1", "192.0.2.2"
_RARP = 0x8035  # RFC 903
_BRIDGE = "br-wire"
_WIRE_NEAR, _WIRE_FAR = "wire0", "wire1"
_TESTS = Path(__file__).resolve().parents[1]
Options = Mapping[tuple[str, str], str]


class Hypervisor:
    """The second host, seen from the first one, BOX.

    DELAY_S is that of a message on its way to Southbound, or back. With SSL
    that goes with certificates and the access rights of an ovn-controller.
    """

    def __init__(
        self,
        box: Sandbox,
        *,
        options: Options | None = None,
        delay_s: float = 0.0,
        ssl: bool = False,
        system_id: str = "",
    ) -> None:
        self.hostname = HOSTNAME
        self._ssl = ssl
        self._files: dict[str, str] = {}
        self.system_id = system_id or str(uuid.uuid4())
        self._ovn = box.ovn
        self._output = box.folder / "hypervisor.out"
        self._options = dict(options or {})
        self._delay_s = delay_s

    def __enter__(self) -> Hypervisor:
        """Start it; return once its chassis is in the database."""
        here, there = multiprocessing.Pipe()
        enter, program = ("-m", "sandbox.enter"), ("-m", "sandbox.hypervisor")
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                (
                    *(sys.executable, *enter, sys.executable, *program),
                    str(there.fileno()),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[there.fileno()],
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
            )
        there.close()
        self._link = here
        try:
            self._link.recv()  # it has its namespaces
            self._connect()
            self._files = self._files or self._listen()
            self._call(
                self._options, self._delay_s, self.system_id, self._files
            )
            self._ovn.sync()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it as it is; its rows stay."""
        self.kill()

    def kill(self) -> None:
        """Have it lose its power: nothing of it runs any more.

        It may be entered again.
        """
        if self._link.closed:
            return
        self._process.kill()
        self._process.wait(20)
        with contextlib.suppress(EOFError, ConnectionError):
            while self._link.poll(20):  # its end closes it
                self._link.recv()
        self._link.close()

    def do(self, what: str, *args: object) -> Any:
        """Return what the method WHAT of `FarSandbox` returns there.

        "agent.start" is one of its agent. Raises RuntimeError with the
        other side's traceback.
        """
        return self._call(what, args)

    def _connect(self) -> None:
        with contextlib.suppress(Exception):
            run("ip", "link", "delete", _WIRE_NEAR)
        run(
            *("ip", "link", "add", _WIRE_NEAR, "type", "veth"),
            *("peer", "name", _WIRE_FAR, "netns", str(self._process.pid)),
        )
        plug_wire(self._ovn, _WIRE_NEAR, NEAR)
        self._ovn.vsctl(
            *("set", "Open_vSwitch", ".", f"external_ids:ovn-encap-ip={NEAR}")
        )

    def _listen(self) -> dict[str, str]:
        """Have Southbound listen on the wire; return files for the client."""
        where, role = f"ptcp:{CLIENT_PORT}:{NEAR}", ()
        files: dict[str, str] = {}
        if self._ssl:
            authority = Authority(self._ovn.folder / "wire")
            server = authority.issue("server")
            client = authority.issue(self.system_id)
            self._ovn.sbctl(
                "set-ssl", *map(str, (*server, authority.certificate))
            )
            where, role = (
                f"pssl:{CLIENT_PORT}:{NEAR}",
                ("role=ovn-controller",),
            )
            paths = {
                "key": client.key,
                "certificate": client.certificate,
                "ca": authority.certificate,
            }
            files = {name: path.read_text() for name, path in paths.items()}
        self._ovn.sbctl(
            *("--id=@c", "create", "Connection", *role, f'target="{where}"'),
            *("--", "set", "SB_Global", ".", "connections=@c"),
        )
        return files

    def _call(self, *message: object) -> Any:
        self._link.send(message)
        failure, result = self._link.recv()
        if failure:
            raise RuntimeError(f"on the second hypervisor:\n{failure}")
        return result


def plug_wire(ovn: Ovn, end: str, address: str) -> None:
    """Have END of the wire in a bridge of OVN's that has ADDRESS.

    Open vSwitch's userspace datapath sends Geneve by such a bridge.
    """
    # On its own: the datapath would keep the device that had the name before.
    ovn.vsctl("--if-exists", "del-port", end)
    ovn.vsctl(
        *("--may-exist", "add-br", _BRIDGE, "--", "set", "Bridge", _BRIDGE),
        *("datapath_type=netdev", "--", "add-port", _BRIDGE, end),
    )
    run("ip", "address", "replace", f"{address}/24", "dev", _BRIDGE)
    for device in (end, _BRIDGE):
        run("ip", "link", "set", device, "up")


def arrive(instance: Instance) -> None:
    """Have INSTANCE arrive by a live migration; wait until it is served.

    OVN blocks its port until it has seen the RARP requests that QEMU sends
    then (activation-strategy).
    """
    mac = bytes.fromhex(instance.port.mac.replace(":", ""))
    ethernet = struct.pack("!6s6sH", b"\xff" * 6, mac, _RARP)
    request = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 3, mac, b"", mac, b""
    )
    with instance.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((INNER, 0))

        def is_served() -> bool:
            link.send((ethernet + request).ljust(60, b"\0"))
            return case.is_served(instance, timeout_s=1.0)

        wait_for(is_served, timeout_s=60, what="activated port")


# ------------------------------------------------------------ the other side


class FarOvn(Ovn):
    """Open vSwitch and ovn-controller alone."""

    _OWN = ("ovsdb-server", "ovs-vswitchd", "ovn-controller")

    def __init__(
        self,
        folder: Path,
        *,
        system_id: str,
        delay_s: float,
        files: Mapping[str, str],
    ) -> None:
        super().__init__(folder, hostname=HOSTNAME, system_id=system_id)
        self.encap_ip = FAR
        self.files = [folder / name for name in files]
        for path in self.files:
            path.write_text(files[path.name])
            os.chown(path, 0, host.ids(host.SERVICE_USER)[1])
            path.chmod(0o640)
        control = OVN_RUN / "southbound.ctl"
        command = (sys.executable, "-m", "sandbox.delayed", str(CLIENT_PORT))
        relay = Daemon(
            name="relay",
            command=(*command, NEAR, str(delay_s), str(control)),
            output=folder / "relay.out",
            ready=control,
        )
        own = {name: self.daemons[name] for name in self._OWN}
        self.daemons = {"relay": relay, **own}

    @property
    def remote(self) -> str:
        """How clients reach Southbound."""
        protocol = "ssl" if self.files else "tcp"
        return f"{protocol}:127.0.0.1:{CLIENT_PORT}"

    def __enter__(self) -> FarOvn:
        """Start what there is."""
        self._create_databases()
        for name in self._OWN[:2]:
            self.start(name)
        self.vsctl("--no-wait", "init")
        plug_wire(self, _WIRE_FAR, FAR)
        self.start("relay")
        self._configure_chassis()
        if self.files:
            self.vsctl("set-ssl", *map(str, self.files))
            remote = f"external_ids:ovn-remote={self.remote}"
            self.vsctl("set", "Open_vSwitch", ".", remote)
        self.start("ovn-controller")
        return self


class FarSandbox(Sandbox):
    """What the first host has, of the second one; a load for each port."""

    def __init__(
        self,
        options: Options,
        delay_s: float,
        system_id: str,
        files: Mapping[str, str],
    ) -> None:
        super().__init__(options=options)
        self.ovn: FarOvn = FarOvn(
            self.folder, system_id=system_id, delay_s=delay_s, files=files
        )
        names = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
        self.agent.options |= {
            ("ovn", "ovn_sb_connection"): self.ovn.remote,
            **{
                ("ovn", name): str(path)
                for name, path in zip(names, self.ovn.files, strict=False)
            },
        }
        self._loads: dict[str, Loader] = {}

    def plug_ports(self, ports: Sequence[Port], wait: bool = True) -> None:
        """Plug instances for PORTS; WAIT until OVN has them."""
        self.plug(ports, wait=wait)

    def unplug_port(self, port: Port) -> None:
        """Unplug the instance of PORT."""
        self.unplug([self._of(port)])

    def arrive(self, port: Port) -> None:
        """Have the instance of PORT arrive; see `arrive`."""
        arrive(self._of(port))

    def wait_served(self, port: Port) -> None:
        """Wait until the instance of PORT gets its own id."""
        case.wait_served(self._of(port))

    def statuses(
        self, port: Port, headers: Mapping[str, str], count: int
    ) -> set[int]:
        """Return those of COUNT requests of PORT's instance with HEADERS."""
        asked = range(count)
        return {self._of(port).fetch(headers=headers).status for _ in asked}

    def wait_host(self, network: Network, *ports: Port) -> None:
        """Wait until NETWORK is served for exactly PORTS."""
        hoststate.wait_host(self, network, *ports)

    def haproxies(self, network: Network) -> list[int]:
        """Return the PIDs of NETWORK's haproxies."""
        return hoststate.haproxies(self, network.id)

    def begin_load(self, port: Port) -> None:
        """Have the instance of PORT ask all the time."""
        load = Loader([self._of(port)], rate=50, timeout_s=10)
        self._loads[port.id] = load.__enter__()

    def wait_load(self, port: Port) -> None:
        """Wait until some more requests of PORT have ended."""
        load = self._loads[port.id]
        wanted = load.requests + 5
        wait_for(
            lambda: load.requests >= wanted,
            timeout_s=60,
            what="more requests",
        )

    def end_load(self, port: Port) -> tuple[int, list[str], float]:
        """Return the number of requests, why some failed, the longest gap.

        What this process was late with is left out of the gap.
        """
        load = self._loads.pop(port.id)
        load.__exit__()
        failures = [each.reason for each in load.failures]
        gap_s = load.longest_gap_s - load.late_s
        return load.requests, failures, gap_s

    def _of(self, port: Port) -> Instance:
        (found,) = (one for one in self.instances if one.port.id == port.id)
        return found


def main() -> None:
    """Do what comes on the descriptor that the command line names."""
    link: multiprocessing.connection.Connection[Any, Any]
    link = multiprocessing.connection.Connection(int(sys.argv[1]))
    link.send("ready")
    with contextlib.ExitStack() as stack:
        box: FarSandbox | None = None
        while True:
            failure, result = "", None
            try:
                message = link.recv()
            except EOFError:
                return
            try:
                if box is None:
                    box = stack.enter_context(FarSandbox(*message))
                else:
                    what, args = message
                    method = functools.reduce(getattr, what.split("."), box)
                    result = method(*args)
            except Exception:  # noqa: BLE001 it is the other side's to judge
                failure = traceback.format_exc()
            link.send((failure, result))


if __name__ == "__main__":
    main()
