"""How much of the Southbound database the agent asks for."""

from __future__ import annotations

from ovn_metadata.agent.ovsdb import southbound

from . import Sandbox
from .waiting import wait_for


def rows_held(box: Sandbox) -> int:
    """Return how many Port_Bindings the agent's conditions bring.

    By its own code, on a connection beside the agent's.
    """
    remote = box.ovn.southbound.remote
    idl = southbound.SouthboundIdl(
        remote,
        chassis_name=box.ovn.system_id,
        on_snapshot=lambda _snapshot: None,
        max_backoff_ms=1000,
    )

    def settled() -> bool:
        idl.run()
        networks = idl.snapshot.networks.values()
        return bool(networks) and all(n.localport for n in networks)

    try:
        wait_for(settled, timeout_s=60, what="the localports")
        return len(idl.tables["Port_Binding"].rows)
    finally:
        idl.close()
