"""Requests from inside a network's namespace, and packets that feign them."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import struct

from . import namespaces
from .instances import HTTP_PORT, INNER, Instance
from .model import METADATA_V4, METADATA_V6, Network

_TCP_SYN = 0x02
_TCP_SYN_ACK = 0x12


def ask(
    network: Network, source: str, path: str, *, headers: str = ""
) -> tuple[int, str]:
    """Ask for PATH as SOURCE; return the answer's status and text."""
    ipv6 = ":" in source
    with namespaces.inside(network.namespace):
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        link = socket.socket(family, socket.SOCK_STREAM)
        scope = socket.if_nametoindex(f"tap{network.id[:10]}1")
    with link:
        link.settimeout(10)
        if ipv6:
            link.connect((str(METADATA_V6), HTTP_PORT, 0, scope))
        else:
            link.connect((str(METADATA_V4), HTTP_PORT))
        link.sendall(
            f"{proxy_header(source)}GET {path} HTTP/1.1\r\nHost: m\r\n"
            f"{headers}\r\n".encode()
        )
        answer = http.client.HTTPResponse(link)
        answer.begin()
        return answer.status, answer.read().decode()


def proxy_header(source: str) -> str:
    """Return the PROXY header, version 1, of a connection from SOURCE."""
    if ":" in source:
        return f"PROXY TCP6 {source} {METADATA_V6} 9 {HTTP_PORT}\r\n"
    return f"PROXY TCP4 {source} {METADATA_V4} 9 {HTTP_PORT}\r\n"


def syn_is_answered(
    instance: Instance, source: str, *, port: int, timeout_s: float = 1.0
) -> bool:
    """Send a SYN from SOURCE; return whether INSTANCE sees the answer."""
    metadata = METADATA_V6 if ":" in source else METADATA_V4
    ends = ipaddress.ip_address(source).packed, metadata.packed
    mac = bytes.fromhex(instance.port.network.metadata.mac.replace(":", ""))
    own = bytes.fromhex(instance.port.mac.replace(":", ""))
    packet, kind = (_ipv6 if ":" in source else _ipv4)(*ends, port)
    # ETH_P_ALL, or the kernel hands over nothing that it sends itself.
    everything = socket.htons(3)
    with instance.socket(
        socket.AF_PACKET, socket.SOCK_RAW, everything
    ) as link:
        link.bind((INNER, 3))
        link.settimeout(timeout_s)
        link.send(mac + own + struct.pack("!H", kind) + packet)
        try:
            while frame := link.recv(2048):
                if _answers(frame, port):
                    return True
        except TimeoutError:
            pass
    return False


def _answers(frame: bytes, port: int) -> bool:
    """Return whether FRAME is a SYN-ACK to PORT."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    offset = {0x0800: 14 + 20, 0x86DD: 14 + 40}.get(kind)
    if offset is None or len(frame) < offset + 20:
        return False
    source, target = struct.unpack_from("!HH", frame, offset)
    flags = frame[offset + 13]
    return (source, target, flags) == (HTTP_PORT, port, _TCP_SYN_ACK)


def _ipv4(source: bytes, target: bytes, port: int) -> tuple[bytes, int]:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, source, target
    )
    head = head[:10] + _checksum(head) + head[12:]
    return head + _syn(source, target, port), 0x0800


def _ipv6(source: bytes, target: bytes, port: int) -> tuple[bytes, int]:
    head = struct.pack("!IHBB16s16s", 6 << 28, 20, 6, 64, source, target)
    return head + _syn(source, target, port), 0x86DD


def _syn(source: bytes, target: bytes, port: int) -> bytes:
    """Return a TCP header (RFC 9293, 3.1) that opens a connection."""
    head = struct.pack(
        "!HHIIBBHHH", port, HTTP_PORT, 7, 0, 5 << 4, _TCP_SYN, 65535, 0, 0
    )
    pseudo = source + target + struct.pack("!II", len(head), 6)
    return head[:16] + _checksum(pseudo + head) + head[18:]


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
