"""What supervisord's extension asks of the system when it is loaded."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

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
