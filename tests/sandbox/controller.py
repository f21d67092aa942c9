"""ovn-controller's rows: what is in them, and how others write them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from . import Port, Sandbox, wait_for
from .daemons import succeeds
from .ovsdb import to_set, to_uuid, update

HEARTBEAT = "neutron:ovn-metadata-sb-cfg"
BRIDGE = "neutron:ovn-bridge"
FOREIGN = "migration-target"


def here(box: Sandbox) -> str:
    """Return the uuid of this chassis."""
    where = [["name", "==", box.ovn.system_id]]
    (chassis,) = box.ovn.sb.select("Chassis", where, ["_uuid"])
    return str(chassis["_uuid"])


def registration(box: Sandbox) -> dict[str, str]:
    """Return the external_ids of the chassis' Chassis_Private."""
    where = [["name", "==", box.ovn.system_id]]
    rows = box.ovn.sb.select("Chassis_Private", where, ["external_ids"])
    return dict(rows[0]["external_ids"]) if rows else {}


@contextlib.contextmanager
def frozen(box: Sandbox, *names: str) -> Iterator[None]:
    """Have the daemons NAMES stand still: they would mend what we write."""
    with contextlib.ExitStack() as stack:
        for name in names:
            box.ovn.freeze(name)
            stack.callback(box.ovn.thaw, name)
        yield


def bind(
    box: Sandbox, port: Port, *, chassis: str = "", additional: str = ""
) -> None:
    """Write where PORT is bound, as another chassis' ovn-controller does."""
    row = {
        "chassis": to_set(to_uuid(one) for one in (chassis,) if one),
        "additional_chassis": to_set(
            to_uuid(one) for one in (additional,) if one
        ),
    }
    where = [["logical_port", "==", port.id]]
    operation = update("Port_Binding", where, row)
    wait_for(
        lambda: box.ovn.sb.transact([operation])[0]["count"],
        timeout_s=60,
        what=f"Port_Binding of {port.name}",
    )


def exit_controller(box: Sandbox) -> None:
    """Ask ovn-controller to end: it takes its rows away; killed, it doesn't.

    It may have been started so lately that it does not listen yet.
    """
    wait_for(
        lambda: succeeds("ovn-appctl", "-t", "ovn-controller", "exit"),
        timeout_s=60,
        what="an ovn-controller that listens",
    )
    box.ovn.daemons["ovn-controller"].wait()
