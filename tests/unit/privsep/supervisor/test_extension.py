"""What supervisord's extension asks of the system when it is loaded."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from supervisor.states import ProcessStates

from ovn_metadata.privsep import names
from ovn_metadata.privsep.supervisor import extension

_FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def hard() -> Iterator[int]:
    """Have few descriptors; give how many there may be."""
    before = resource.getrlimit(_FILES)
    resource.setrlimit(_FILES, (1024, before[1]))
    yield before[1]
    resource.setrlimit(_FILES, before)


def test_supervisord_may_open_as_much_as_its_unit_lets_it(hard):
    """Five descriptors for each network; the agent starts it with few."""
    extension._allow_descriptors()
    wanted = 65535 if hard == resource.RLIM_INFINITY else min(hard, 65535)
    assert resource.getrlimit(_FILES) == (wanted, hard)


def test_what_it_may_open_is_not_made_less(hard):
    resource.setrlimit(_FILES, (hard, hard))
    extension._allow_descriptors()
    assert resource.getrlimit(_FILES) == (hard, hard)


def test_states_of_hundreds_of_programs_are_a_short_answer():
    """Its supervisord sends 4 kB, looks at all programs, and so on."""
    groups = {}
    for number in range(200):
        name = names.program_name(str(uuid.UUID(int=number)))
        process = SimpleNamespace(
            config=SimpleNamespace(name=name),
            get_state=lambda: ProcessStates.RUNNING,
            pid=4_000_000,
            laststart=1_800_000_000.7,
        )
        groups[name] = SimpleNamespace(processes={name: process})
    fleet = object.__new__(extension.FleetInterface)
    fleet._supervisord = SimpleNamespace(process_groups=groups)
    answer = fleet.programs()
    last = names.program_name(str(uuid.UUID(int=199)))
    assert answer.splitlines()[-1] == f"{last} RUNNING 4000000 1800000000"
    assert len(answer) < 200 * 100
