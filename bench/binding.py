"""Bind and unbind many ports at once, and see when they are served.

The instances are made once; what is measured begins with the one Open
vSwitch transaction that takes their ports on the bridge or off it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence

from sandbox import Instance, Sandbox, model

# A SYN that came too early is lost: a new connection tries again sooner
# than TCP would, and this is how exact the results are.
PATIENCE_S = 0.1
_ANSWER_S = 10.0
_REQUEST = (
    b"GET /latest/meta-data/instance-id HTTP/1.1\r\n"
    b"Host: 169.254.169.254\r\nConnection: close\r\n\r\n"
)


def make_instances(
    box: Sandbox, count: int, *, offset: int = 0
) -> list[Instance]:
    """Return COUNT instances, each alone on a network of its own; bound."""
    with box.neutron.batch():
        networks = [
            box.neutron.create_network(f"net-{offset + number}")
            for number in range(count)
        ]
        ports = [box.neutron.create_port(network) for network in networks]
    box.ovn.sync()
    return box.plug(ports)


def bind(instances: Sequence[Instance]) -> None:
    """Have all ports of INSTANCES on the bridge, by one transaction."""
    command: list[str] = []
    for instance in instances:
        command += ["--", "add-port", instance.ovn.bridge, instance.outer]
        command += ["--", "set", "Interface", instance.outer]
        command += [
            f"external_ids:iface-id={instance.port.id}",
            f'external_ids:attached-mac="{instance.port.mac}"',
            "external_ids:iface-status=active",
            f"external_ids:vm-uuid={instance.port.device_id}",
        ]
    instances[0].ovn.vsctl("--no-wait", *command)


def unbind(instances: Sequence[Instance]) -> None:
    """Take all ports of INSTANCES off the bridge, by one transaction."""
    command: list[str] = []
    for instance in instances:
        command += ["--", "--if-exists", "del-port", instance.outer]
    instances[0].ovn.vsctl("--no-wait", *command)


def seconds_to_answers(
    instances: Sequence[Instance],
    *,
    timeout_s: float,
    patience_s: float = PATIENCE_S,
) -> list[float]:
    """Return, for each of INSTANCES, the seconds until it was answered.

    A connection that is not made in PATIENCE_S is given up and tried anew.
    Raises TimeoutError when one is not answered within TIMEOUT_S.
    """
    return asyncio.run(_answers(instances, timeout_s, patience_s))


async def _answers(
    instances: Sequence[Instance], timeout_s: float, patience_s: float
) -> list[float]:
    begun = time.monotonic()

    async def answered(instance: Instance) -> float:
        while not await _ask(instance, patience_s):
            if time.monotonic() - begun > timeout_s:
                raise TimeoutError(
                    f"instance {instance.namespace} has no answer after "
                    f"{timeout_s:g} s"
                )
            await asyncio.sleep(patience_s / 2)
        return time.monotonic() - begun

    return list(await asyncio.gather(*map(answered, instances)))


async def _ask(instance: Instance, patience_s: float) -> bool:
    """Tell whether INSTANCE gets 200 and its own id now."""
    loop = asyncio.get_running_loop()
    with instance.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
        link.settimeout(0)  # asyncio wants it so
        try:
            there = (str(model.METADATA_V4), 80)
            connected = loop.sock_connect(link, there)
            await asyncio.wait_for(connected, patience_s)
            await loop.sock_sendall(link, _REQUEST)
            async with asyncio.timeout(_ANSWER_S):
                parts = []
                while part := await loop.sock_recv(link, 65536):
                    parts.append(part)
        except OSError:  # TimeoutError is one
            return False
    answer = b"".join(parts)
    wanted = instance.instance_id.encode()
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(wanted)
