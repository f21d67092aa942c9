"""Count the answers that ended at their hop limit, behind an instance.

haproxy sees nothing of them: the handshake never completes. The host at which
one ended reports it (ICMP, time exceeded), and the kernel counts that. Those
are of IPv4: nothing forwards what goes to our IPv6 address, a link-local one.
"""

import re
from pathlib import Path

from .memory import is_program

# Two lines: the names of the counters, and the counters.
_ICMP = re.compile(r"^Icmp: (.*)$", re.M)


def ended(pid_file: Path, config: Path) -> int:
    """Return how many did, since the namespace of a haproxy was made.

    PID_FILE has its pid, and it runs on CONFIG; 0 if it does not run.
    """
    try:
        process = Path("/proc", pid_file.read_text().strip())
        is_ours = is_program(process, config)
        text = (process / "net/snmp").read_text() if is_ours else ""
    except OSError:
        return 0
    lines = [line.split() for line in _ICMP.findall(text)]
    return int(dict(zip(*lines, strict=True))["InTimeExcds"]) if lines else 0
