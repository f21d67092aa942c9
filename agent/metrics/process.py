"""What /proc knows of a haproxy: cheap, and without a right."""

import os
import re
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Two lines: the names of the counters, and the counters.
_ICMP = re.compile(r"^Icmp: (.*)$", re.M)


def memory(pid: int, config: Path) -> int | None:
    """Return the bytes of the haproxy PID, without those from files.

    All haproxies share the program's file. None if PID is not the haproxy
    that runs on CONFIG, as in another PID namespace.
    """
    process = Path(f"/proc/{pid}")
    try:
        if not _runs_on(config, process):
            return None
        _, resident, shared, *_ = (process / "statm").read_text().split()
    except OSError:  # it has ended meanwhile
        return None
    return (int(resident) - int(shared)) * _PAGE


def ended(pid_file: Path, config: Path) -> int:
    """Return how many answers ended at their hop limit, behind an instance.

    Since the namespace of a haproxy was made; PID_FILE has its pid, and it
    runs on CONFIG. 0 if it does not run.

    haproxy sees nothing of them: the handshake never completes. The host at
    which one ended reports it (ICMP, time exceeded), and the kernel counts
    that. Those are of IPv4: nothing forwards what goes to our IPv6 address, a
    link-local one.
    """
    try:
        process = Path("/proc", pid_file.read_text().strip())
        is_ours = _runs_on(config, process)
        text = (process / "net/snmp").read_text() if is_ours else ""
    except OSError:
        return 0
    lines = [line.split() for line in _ICMP.findall(text)]
    return int(dict(zip(*lines, strict=True))["InTimeExcds"]) if lines else 0


def _runs_on(config: Path, process: Path) -> bool:
    """Return whether PROCESS in /proc is the haproxy that runs on CONFIG."""
    return str(config).encode() in (process / "cmdline").read_bytes()
