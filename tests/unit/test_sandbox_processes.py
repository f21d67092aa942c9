"""Processes as tests and benchmarks look at them."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.processes import pss_kib

HIGHEST = Path("/proc/sys/kernel/pid_max")


def test_memory_of_a_process():
    assert 1024 < pss_kib(os.getpid()) < 1 << 20


def test_memory_of_one_that_ended_is_none():
    # What is listed may have ended when its memory is read: Neutron's agent
    # runs many programs that are done at once.
    assert pss_kib(int(HIGHEST.read_text())) == 0
