"""The agent's life: what a reload of the configuration hurries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ovn_metadata.agent.reconcile.nova_addresses import NovaAddresses
from ovn_metadata.agent.reconcile.workqueue import Queues
from ovn_metadata.agent.service import Service
from ovn_metadata.agent.watches.confirmation import Confirmation
from ovn_metadata.agent.watches.selfcheck import SelfCheck


def test_a_reload_confirms_no_rows_early():
    """What is confirmed is what a poll half a second ago has read."""
    woken: list[type] = []
    service: Any = Service.__new__(Service)
    service._watches = []
    for kind in (NovaAddresses, Confirmation, SelfCheck):
        watch: Any = kind.__new__(kind)
        watch.wake = lambda kind=kind: woken.append(kind)
        service._watches.append(watch)
    service._queues = Queues()
    service._snapshots = SimpleNamespace(chassis=SimpleNamespace(synced=True))
    service.reconfigured()
    assert woken == [NovaAddresses, SelfCheck]
