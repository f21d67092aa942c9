"""Instances: a namespace each, with a veth that OVN takes for a VIF.

Requests are made from within by a socket opened there; no process is
started for them.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import fcntl
import http.client
import re
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import model, namespaces
from .daemons import CommandError, run
from .model import IPAddress, Port
from .ovn import Ovn

INNER = "eth0"
HTTP_PORT = 80
INSTANCE_ID = "/latest/meta-data/instance-id"
TIMEOUT_S = 10.0
_ANSWER_BYTES = 65536
_ANSWER = re.compile(
    rb"HTTP/1\.1 (\d+) (?s:.*?\r\n)content-length: (\d+)\r\n"
    rb"(?s:.*?\r\n)??\r\n",
    re.IGNORECASE,
)
_DHCP_SCRIPT = Path(__file__).with_name("udhcpc.script")

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An answer, and how long it took from connect to the last byte."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Instance:
    """A guest on this chassis; at most one port."""

    def __init__(self, ovn: Ovn, port: Port) -> None:
        self.ovn = ovn
        self.port = port
        self.namespace = f"vm-{port.id[:11]}"
        self.outer = f"tap{port.id[:11]}"
        self.scope = 0  # index of eth0, for link-local addresses

    @property
    def instance_id(self) -> str:
        """The id that Nova knows the instance by."""
        return self.port.device_id

    def plug(self, *, dhcp: bool = False, timeout_s: float = 60.0) -> None:
        """Plug the port and wait until OVN has it; then take addresses."""
        plug_all([self], dhcp=dhcp, timeout_s=timeout_s)

    def unplug(self) -> None:
        """Take the port off the bridge and remove the namespace."""
        unplug_all([self])

    # -- inside -----------------------------------------------------------

    def fetch(
        self,
        path: str = INSTANCE_ID,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        data: bytes | None = None,
        timeout: float = TIMEOUT_S,
        ipv6: bool = False,
        source: str = "",
    ) -> Response:
        """Ask the metadata service, over a connection of its own.

        Raises OSError or http.client.HTTPException when no answer comes.
        HEADERS go out as they are, in order, repeated ones too.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        begun = time.monotonic()
        link = self.connect(timeout=timeout, ipv6=ipv6, source=source)
        host = f"[{model.METADATA_V6}]" if ipv6 else str(model.METADATA_V4)
        client = http.client.HTTPConnection(host, timeout=timeout)
        with contextlib.closing(client):
            client.sock = link
            given = {name.lower() for name, _ in pairs}
            client.putrequest(
                method,
                path,
                skip_host="host" in given,
                skip_accept_encoding=True,
            )
            for name, value in pairs:
                client.putheader(name, value)
            if data is not None and "transfer-encoding" not in given:
                client.putheader("Content-Length", str(len(data)))
            client.endheaders(data)
            answer = client.getresponse()
            body = answer.read()
            return Response(
                answer.status, answer.msg, body, time.monotonic() - begun
            )

    def ask(
        self, *, timeout: float, ipv6: bool = False, header: str = ""
    ) -> tuple[int, bytes]:
        """Ask for the instance id; return status and body. Raise as `fetch`.

        HEADER is a line of its own, or empty. For many requests: http.client
        takes half a millisecond of CPU for an answer's headers.
        """
        host = f"[{model.METADATA_V6}]" if ipv6 else str(model.METADATA_V4)
        head = f"GET {INSTANCE_ID} HTTP/1.1\r\nHost: {host}\r\n{header}"
        with self.connect(timeout=timeout, ipv6=ipv6) as link:
            link.sendall(f"{head}\r\n".encode())
            data = link.recv(_ANSWER_BYTES)
            if not data:
                raise http.client.RemoteDisconnected("closed, no answer")
            while not (found := _ANSWER.match(data)):
                if not (more := link.recv(_ANSWER_BYTES)):
                    raise http.client.IncompleteRead(data)
                data += more
            size, body = int(found[2]), data[found.end() :]
            while len(body) < size:
                if not (more := link.recv(_ANSWER_BYTES)):
                    raise http.client.IncompleteRead(body)
                body += more
        return int(found[1]), body

    def connect(
        self,
        *,
        timeout: float = TIMEOUT_S,
        ipv6: bool = False,
        source: str = "",
        port: int = HTTP_PORT,
    ) -> socket.socket:
        """Return a TCP connection to the metadata address."""
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        link = self.socket(family, socket.SOCK_STREAM)
        link.settimeout(timeout)
        try:
            if source:
                link.bind((source, 0, 0, self.scope) if ipv6 else (source, 0))
            if ipv6:
                there = (str(model.METADATA_V6), port, 0, self.scope)
                link.connect(there)
            else:
                link.connect((str(model.METADATA_V4), port))
        except BaseException:
            link.close()
            raise
        return link

    def socket(
        self, family: int, kind: int, protocol: int = 0
    ) -> socket.socket:
        """Return a socket that lives in the instance's namespace."""
        with namespaces.inside(self.namespace):
            return socket.socket(family, kind, protocol)

    def execute(self, *command: str, timeout_s: float = 30.0) -> str:
        """Run COMMAND inside and return its stdout."""
        where = ("ip", "netns", "exec", self.namespace)
        return run(*where, *command, timeout_s=timeout_s)

    def curl(self, *args: str, timeout_s: float = 30.0) -> str:
        """Run the real curl inside and return its stdout."""
        return self.execute("curl", "-sS", *args, timeout_s=timeout_s)

    # -- addresses --------------------------------------------------------

    def take(self, address: str) -> str:
        """Take ADDRESS beside those that we have; return it."""
        flag = " nodad" if ":" in address else ""
        size = 128 if ":" in address else 32
        self._ip_batch([f"address replace {address}/{size} dev {INNER}{flag}"])
        return address

    def announce(self, address: IPAddress) -> None:
        """Tell the network, unasked, that we have ADDRESS."""
        mac = bytes.fromhex(self.port.mac.replace(":", ""))
        ip = address.packed
        if address.version == 6:
            # A neighbour advertisement (RFC 4861, 4.4) that overrides.
            what = struct.pack("!BBHI", 136, 0, 0, 1 << 29) + ip
            everyone = ("ff02::1", 0, 0, self.scope)
            raw = (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            with self.socket(*raw) as link:
                link.bind((str(address), 0, 0, 0))
                hops = (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                link.setsockopt(*hops)
                link.sendto(what + b"\x02\x01" + mac, everyone)
            return
        # An ARP request (RFC 826) of ADDRESS for itself.
        what = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        frame = b"\xff" * 6 + mac + b"\x08\x06" + what
        frame += mac + ip + bytes(6) + ip
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((INNER, 0))
            link.send(frame)

    def configure(self) -> None:
        """Take the port's addresses and the routes its DHCP would give."""
        commands: list[str] = []
        for address, size in self.port.fixed:
            flag = " nodad" if address.version == 6 else ""
            commands.append(
                f"address replace {address}/{size} dev {INNER}{flag}"
            )
        if self.port.ip4 is not None:
            commands += self._routes()
        self._ip_batch(commands)

    def request_lease(self) -> None:
        """Get address and routes from OVN's DHCP, by a real client."""
        self.execute(
            *("udhcpc", "-i", INNER, "-f", "-n", "-q", "-t", "20"),
            *("-T", "1", "-O", "staticroutes", "-O", "mtu"),
            *("-s", str(_DHCP_SCRIPT)),
        )
        commands = [
            f"address replace {address}/{size} dev {INNER} nodad"
            for address, size in self.port.fixed
            if address.version == 6
        ]
        self._ip_batch(commands)

    def _routes(self) -> list[str]:
        network = self.port.network
        v4 = [s for s in network.subnets if s.cidr.version == 4]
        via: IPAddress | None = None
        gateway: IPAddress | None = None
        for subnet in v4:
            if self.port.ip4 not in subnet.cidr:
                continue
            gateway = subnet.gateway
            for address, _ in network.metadata.fixed:
                if address in subnet.cidr:
                    via = address
        hop = f"via {via} " if via else ""
        routes = [f"route replace {model.METADATA_V4} {hop}dev {INNER}"]
        if gateway and gateway != via:
            routes.append(f"route replace default via {gateway} dev {INNER}")
        return routes

    def _ip_batch(self, commands: Sequence[str]) -> None:
        if commands:
            text = "\n".join(commands) + "\n"
            run("ip", "-n", self.namespace, "-batch", "-", stdin=text)

    # -- the wire ---------------------------------------------------------

    def prepare(self) -> None:
        """Settle what must hold inside before the link comes up."""
        with namespaces.inside(self.namespace):
            # A guest waits a second for duplicates; tests need not.
            settings = Path("/proc/sys/net/ipv6/conf") / INNER
            (settings / "accept_dad").write_text("0")
            # Nor before it asks once more who has an address: the metadata
            # port may have come just after the question.
            for family in ("ipv4", "ipv6"):
                neighbours = Path(f"/proc/sys/net/{family}/neigh") / INNER
                (neighbours / "retrans_time_ms").write_text("50")
                (neighbours / "mcast_solicit").write_text("100")
            self.scope = socket.if_nametoindex(INNER)
            disable_tx_checksums(INNER)
        self._ip_batch(
            [
                "link set lo up",
                f"link set {INNER} mtu {self.port.network.mtu} up",
            ]
        )


def disable_tx_checksums(name: str) -> None:
    """Have the kernel finish checksums: OVS's userspace reads the bytes."""
    # struct ifreq: the name, then a pointer to struct ethtool_value.
    value = array.array("I", (_ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def plug_all(
    instances: Iterable[Instance],
    *,
    dhcp: bool = False,
    timeout_s: float = 60.0,
    wait: bool = True,
) -> None:
    """Plug INSTANCES in one OVS transaction; return once OVN has them.

    With WAIT false, neither OVN nor DHCP is waited for: addresses are
    static and the metadata service may not answer yet.
    """
    todo = list(instances)
    ovn = todo[0].ovn if todo else None
    if ovn is None:
        return
    prepare_all(todo, dhcp=dhcp and wait)
    attach_all(todo)
    if wait:
        ovn.wait_installed(
            (instance.port.id for instance in todo), timeout_s=timeout_s
        )
        if dhcp:
            for instance in todo:
                instance.request_lease()


def prepare_all(instances: Sequence[Instance], *, dhcp: bool = False) -> None:
    """Make the namespaces of INSTANCES: all but what plugs them.

    With DHCP they get no addresses yet.
    """
    make_links(instances)
    for instance in () if dhcp else instances:
        instance.configure()


def make_links(instances: Sequence[Instance]) -> None:
    """Make the namespaces of INSTANCES with their links, as yet unplugged."""
    links: list[str] = []
    for instance in instances:
        run("ip", "netns", "add", instance.namespace)
        links.append(
            f"link add {instance.outer} type veth peer name {INNER} "
            f"address {instance.port.mac} netns {instance.namespace}"
        )
        links.append(f"link set {instance.outer} up")
    run("ip", "-batch", "-", stdin="\n".join(links) + "\n")
    for instance in instances:
        instance.prepare()


def attach_all(instances: Iterable[Instance]) -> None:
    """Have INSTANCES on the bridge, wherever they were, as Nova does."""
    todo = list(instances)
    command: list[str] = []
    for instance in todo:
        outer, ovn = instance.outer, instance.ovn
        command += ["--", "--if-exists", "del-port", outer]
        command += ["--", "add-port", ovn.bridge, outer]
        command += ["--", "set", "Interface", outer]
        command += [
            f"external_ids:iface-id={instance.port.id}",
            f'external_ids:attached-mac="{instance.port.mac}"',
            "external_ids:iface-status=active",
            f"external_ids:vm-uuid={instance.port.device_id}",
        ]
    if todo:
        todo[0].ovn.vsctl(*command[1:])


def unplug_all(instances: Iterable[Instance]) -> None:
    """Unplug INSTANCES in one OVS transaction; remove their namespaces."""
    todo = list(instances)
    command: list[str] = []
    for instance in todo:
        command += ["--", "--if-exists", "del-port", instance.outer]
    if todo:
        ovn = todo[0].ovn
        ovn.vsctl(*command[1:])
        # With its namespace alone it would go a moment later, and its name
        # may be needed at once. One may be gone already.
        links = "".join(f"link delete {each.outer}\n" for each in todo)
        with contextlib.suppress(CommandError):
            run("ip", "-force", "-batch", "-", stdin=links)
    for instance in todo:
        if (namespaces.NETNS_FOLDER / instance.namespace).exists():
            run("ip", "netns", "delete", instance.namespace)
