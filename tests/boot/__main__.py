"""Boot a plain Debian and do to it, by apt and systemd, what operators do.

python -m boot BASE, the folder that it is made in if it is not there. Ends
with what was wrong.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import (
    acts_compat,
    acts_install,
    acts_removal,
    acts_units,
    acts_upgrade,
    packages,
)
from . import root as roots
from .chassis import AGENT, FLEET, Chassis
from .machine import Machine

ACTS: tuple[Callable[[Chassis], None], ...] = (
    acts_install.without_ovn,
    acts_install.ovn_comes,
    acts_install.units_are_sound,
    acts_units.served,
    acts_units.daemon_killed,
    acts_units.agent_killed,
    acts_units.each_restarted,
    acts_units.agent_reloaded_early,
    acts_units.agent_stopped,
    acts_units.fleet_stopped,
    acts_units.unbound_and_bound,
    acts_upgrade.upgraded,
    acts_upgrade.broken_file,
    acts_compat.neutrons_files,
    acts_compat.neutrons_names,
    acts_removal.removed,
    acts_removal.rebooted,
    acts_units.nothing_failed,
    acts_units.read_only_state_path,
    acts_removal.removed_beside_another,
    acts_removal.all_removed,
    acts_removal.purged,
    acts_removal.others_purged,
)


def main() -> int:
    """Make BASE and the packages, boot a copy, and run every act."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base = Path(sys.argv[1])
    roots.build(base)
    with tempfile.TemporaryDirectory() as folder:
        releases = packages.releases(Path(folder))
        ours = releases[0].files()
        # As the acts do: apt chooses other alternatives for both at once.
        roots.download(base, ours)
        roots.download(base, (*ours, *acts_install.OTHERS))
        with roots.copy(base) as root:
            for release in releases:
                release.put_into(root)
            with Machine(root, Path(folder) / "console") as machine:
                perform(Chassis(machine, releases))
    print("all is as it should be")
    return 0


def perform(chassis: Chassis) -> None:
    """Run every act; stop at the first that fails."""
    for act in ACTS:
        start = time.monotonic()
        print(f"-- {act.__name__}: {act.__doc__}")
        try:
            act(chassis)
        except Exception:
            print(chassis.machine.said("agent-status"))
            for unit in ("*privsep*", FLEET, AGENT):
                print(chassis.journal(unit, "--lines=25"))
            raise
        print(f"   {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
