"""What the kernel says of one process, found by its PID file."""

import os
from pathlib import Path

from ovn_metadata.agent.metrics import process


def this_program() -> Path:
    """Return an argument of this process, for the path of its file."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(words[0]))


def test_it_is_read_of_that_process_alone(tmp_path):
    file = tmp_path / "x.pid"
    file.write_text(f"{os.getpid()}\n")
    text = Path("/proc/self/net/snmp").read_text()
    names, values = (
        line.split() for line in text.splitlines() if line.startswith("Icmp:")
    )
    counted = int(values[names.index("InTimeExcds")])
    assert process.ended(file, this_program()) == counted
    assert process.ended(file, Path("/no/such/file.conf")) == 0
    assert process.ended(tmp_path / "none", this_program()) == 0
    assert (process.memory(file, this_program()) or 0) > 1 << 20
    assert process.memory(file, Path("/no/such/file.conf")) is None
    for text in ("", "0", "nonsense"):
        file.write_text(text)
        assert process.ended(file, this_program()) == 0
        assert process.memory(file, this_program()) is None
