"""A port that is up is served: its instance's first request is answered.

A small `make bench ARGS=binds`; the figures for 1,000 ports are there.
"""

from __future__ import annotations

from collections import Counter

import pytest

from sandbox import Network, Sandbox, holds
from sandbox.agent import SPARE
from sandbox.binds import Binds
from sandbox.case import ready, wait_served

ROUNDS, PORTS, FIRST = 2, 25, 5  # so many rounds of so many
LOST = {"404", "refused", "another's"}  # cloud-init believes these


@pytest.fixture(scope="module")
def served(host) -> tuple[Sandbox, list[Network]]:
    """Give a chassis with networks that are served."""
    box = ready(host.sandbox(SPARE))
    networks = [box.neutron.create_network(f"n{n}") for n in range(5)]
    wait_served(*box.plug(map(box.neutron.create_port, networks)))
    return box, networks


@pytest.mark.parametrize("requested", [True, False])
def test_up_means_served(served, requested: bool):
    """At once where Neutron asks for the chassis before it is plugged.

    Without that (OVN before 21.12) nobody is told what loses a boot.
    """
    binds = Binds(*served, requested=requested)

    def are_served() -> bool:
        seen = [
            one
            for _ in range(ROUNDS)
            for one in binds.round(PORTS, first=FIRST)
        ]
        said = Counter(one.said for one in seen)
        slowest_s = max(one.seconds for one in seen)
        print(f"{dict(said)}, the slowest after {slowest_s:.2f} s")
        assert len(seen) == ROUNDS * PORTS
        assert not LOST & said.keys()
        # A busy machine may be late with a packet, or with an answer.
        assert not requested or said.keys() <= {"200", "timed out"}
        return not requested or said.keys() == {"200"}

    assert holds(are_served)
