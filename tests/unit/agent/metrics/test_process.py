"""What the kernel says of one process, found by its PID file."""

import os
from pathlib import Path

from ovn_metadata.agent.metrics import process


def test_it_is_read_of_that_process_alone(tmp_path):
    file = tmp_path / "x.pid"
    file.write_text(f"{os.getpid()}\n")
    text = Path("/proc/self/net/snmp").read_text()
    names, values = (
        line.split() for line in text.splitlines() if line.startswith("Icmp:")
    )
    counted = int(values[names.index("InTimeExcds")])
    assert process.ended(file, os.getuid()) == counted
    assert process.ended(file, os.getuid() + 1) == 0
    assert process.ended(tmp_path / "none", os.getuid()) == 0
    assert (process.memory(file, os.getuid()) or 0) > 1 << 20
    assert process.memory(file, os.getuid() + 1) is None
    for text in ("", "0", "nonsense"):
        file.write_text(text)
        assert process.ended(file, os.getuid()) == 0
        assert process.memory(file, os.getuid()) is None
