"""Entrypoints: questions to Open vSwitch's and OVN's daemons of this host.

Each listens on a unix socket for commands (ovs-appctl(8)); only root may
connect. Where the sockets are, root's environment says.
"""

import contextlib
import json
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from . import kernel, names, validate
from .context import entrypoint
from .errors import AskError, InvalidArgumentError

_SWITCH, _CONTROLLER = "ovs-vswitchd", "ovn-controller"
# Where each has its sockets, and what it is asked to see whether it answers.
_DAEMONS = {
    _SWITCH: ("OVS_RUNDIR", "/run/openvswitch", "version"),
    _CONTROLLER: ("OVN_RUNDIR", "/run/ovn", "connection-status"),
}
_VERSION_S = 1.0
_TRACE_S = 3.0
_MAX_ANSWER = 1024 * 1024
_MAX_TRACE = 64 * 1024
# Of an instance's connection; no rule looks at it.
_CLIENT_PORT = 40_000
# A packet passes the connection tracker once in each zone.
_ZONES = 8


@entrypoint(subject=None)
def daemons() -> Mapping[str, str]:
    """Return a word on ovs-vswitchd and ovn-controller.

    "answers"; "lost": ovn-controller is not connected to Southbound;
    "silent": it listens and does not answer; "dead": it has left its socket;
    "unknown": it has no socket here, or not for us (it runs in another
    container, or as another user).
    """
    return {
        name: _word(name, asked) for name, (_, _, asked) in _DAEMONS.items()
    }


def _word(name: str, asked: str) -> str:
    try:
        said = _call(name, asked, [], timeout_s=_VERSION_S)
    except ConnectionRefusedError:
        return "dead"
    except (BlockingIOError, TimeoutError):  # or its queue is full
        return "silent"
    except (OSError, AskError):
        return "unknown"
    return "lost" if said.startswith("not connected") else "answers"


@entrypoint(subject=None)
def trace(
    bridge: str,
    *,
    kind: str,
    in_port: int,
    vlan: int,
    mac: str,
    to_mac: str,
    source: str,
    destination: str,
) -> str:
    """Return what ovs-vswitchd would do with a packet; nothing is sent.

    It enters BRIDGE by the OpenFlow port IN_PORT with the tag VLAN (0: none).
    KIND: a "request" by HTTP, an "answer" to one, or "dhcp": the discovery
    that an instance with MAC sends, whatever the other addresses are. Raises
    AskError, OSError, InvalidArgumentError.
    """
    bridge, kind = validate.device(bridge), validate.packet(kind)
    ends = validate.address(source), validate.address(destination)
    macs = validate.mac(mac), validate.mac(to_mac)
    flow = _dhcp(macs[0]) if kind == "dhcp" else _http(kind, macs, ends)
    flow += f",nw_ttl=64,in_port={validate.openflow_port(in_port)}"
    if vlan := validate.vlan(vlan):
        flow += f",dl_vlan={vlan}"
    words = [bridge, flow]
    if kind == "answer":
        words += ["--ct-next", "trk,est,rpl"] * _ZONES
    answer = _call(_SWITCH, "ofproto/trace", words, timeout_s=_TRACE_S)
    return answer[:_MAX_TRACE]


def _dhcp(mac: str) -> str:
    """Return the discovery of DHCP that an instance with MAC sends."""
    return (
        f"udp,dl_src={mac},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,"
        f"nw_dst=255.255.255.255,udp_src=68,udp_dst=67"
    )


def _http(kind: str, macs: tuple[str, str], ends: tuple[str, str]) -> str:
    """Return a packet of a "request" or an "answer" by HTTP."""
    version = {":" in address for address in ends}
    if len(version) > 1:
        raise InvalidArgumentError("addresses of two families")
    six, ip = ("6", "ipv6_") if version.pop() else ("", "nw_")
    ports = _CLIENT_PORT, names.METADATA_PORT
    from_port, to_port = ports if kind == "request" else ports[::-1]
    return (
        f"tcp{six},dl_src={macs[0]},dl_dst={macs[1]},{ip}src={ends[0]},"
        f"{ip}dst={ends[1]},tcp_src={from_port},tcp_dst={to_port}"
    )


def _call(
    name: str, method: str, words: list[str], *, timeout_s: float
) -> str:
    """Return the answer of the daemon NAME to a command (JSON-RPC).

    Raises AskError with what it says if it refuses, OSError.
    """
    request = {"id": 0, "method": method, "params": words}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(_control_socket(name))
        connection.sendall(json.dumps(request).encode())
        said = b""
        for part in kernel.received(connection, timeout_s):
            said += part
            # One message; it ends with its last brace.
            with contextlib.suppress(ValueError):
                return _result(name, json.loads(said))
            if len(said) > _MAX_ANSWER:
                break
    raise AskError(f"{name} closed the connection")


def _result(name: str, answer: Any) -> str:
    if not isinstance(answer, dict) or answer.get("error") is not None:
        error = answer.get("error") if isinstance(answer, dict) else answer
        raise AskError(f"{name} refuses: {error!s:.300}")
    return str(answer.get("result"))


def _control_socket(name: str) -> str:
    """Return the path of the socket of the daemon NAME.

    It has the daemon's pid in it, and a daemon that was killed leaves its
    own. Raises OSError.
    """
    variable, folder, _ = _DAEMONS[name]
    folder = os.environ.get(variable, folder)
    with (
        contextlib.suppress(FileNotFoundError),
        open(f"{folder}/{name}.pid") as file,
    ):
        pid = re.match("[0-9]{1,10}", file.read(20))
        path = f"{folder}/{name}.{pid[0] if pid else ''}.ctl"
        if os.path.exists(path):
            return path
    return f"{folder}/{name}.ctl"
