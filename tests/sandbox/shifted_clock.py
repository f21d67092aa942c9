"""Another time of day for the Python processes of one installation.

Copied there, and imported by each of them as it starts. CLOCK_REALTIME is
the whole machine's; what a jump of it does to a program that asks Python
for the time, this does.
"""

from __future__ import annotations

import time
from pathlib import Path

SHIFT = Path("/run/clock-shift")  # seconds
_NS_PER_S = 10**9

_time, _time_ns = time.time, time.time_ns


def _shift_s() -> int:
    try:
        return int(SHIFT.read_text())
    except OSError:
        return 0


def install(packages: Path) -> None:
    """Have the Python whose packages are in PACKAGES use this clock."""
    (packages / "shifted_clock.py").write_text(Path(__file__).read_text())
    line = "import shifted_clock; shifted_clock.shift()\n"
    (packages / "shifted_clock.pth").write_text(line)


def shift() -> None:
    """Use this clock in this process."""
    time.time = lambda: _time() + _shift_s()
    time.time_ns = lambda: _time_ns() + _shift_s() * _NS_PER_S
