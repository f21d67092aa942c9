"""What the kernel says of answers that ended at their hop limit."""

import os
from pathlib import Path

from ovn_metadata.agent.metrics import hops


def this_program() -> Path:
    """Return an argument of this process, for the path of its file."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(words[0]))


def test_it_is_read_of_that_process_alone():
    assert hops.ended(os.getpid(), this_program()) >= 0
    assert hops.ended(os.getpid(), Path("/no/such/file.conf")) == 0
    assert hops.ended(0, Path("/x")) == 0
