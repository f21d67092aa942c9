"""Play packaging/ansible against a plain Debian that is booted for it.

python -m boot.ansible BASE ANSIBLE NEUTRON DEBS: the folder that the Debian
is made in if it is not there, the virtual environments of Ansible and of
Neutron's agent, and the folder with our packages. Ends with what was wrong.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import acts_migration, acts_role, packages, prepared
from . import root as roots
from .chassis import AGENT, FLEET, Chassis
from .control import Control
from .machine import Machine

Act = Callable[[Chassis, Control], None]

BY_PACKAGE: tuple[Act, ...] = (
    acts_role.looked_at,
    acts_role.deployed,
    acts_role.looked_at_again,
    acts_role.reloaded,
    acts_role.restarted,
    acts_role.privileged,
    acts_role.taken_up,
    acts_role.refused,
    acts_role.moved,
)
BY_PIP: tuple[Act, ...] = (
    acts_role.looked_at,
    acts_role.deployed,
    acts_role.looked_at_again,
    acts_role.in_virtual_environment,
    acts_role.reloaded,
    acts_role.privileged,
)
FROM_NEUTRON: tuple[Act, ...] = (
    acts_migration.migrated,
    acts_migration.rolled_back,
    acts_migration.migrated_again,
    acts_migration.neutrons_packages_upgraded,
)
UNITS = ("*privsep*", FLEET, AGENT)


def main() -> int:
    """Prepare a Debian, boot a copy for each way of installing, and play."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base, ansible, neutron, folder = (
        Path(word).resolve() for word in sys.argv[1:]
    )
    names = (packages.FLEET, packages.AGENT)
    debs = [next(folder.glob(f"{name}_*.deb")) for name in names]
    roots.build(base)
    with (
        tempfile.TemporaryDirectory() as scratch,
        roots.copy(base) as root,
    ):
        prepared.build_wheels(Path(scratch), Path(sys.executable))
        prepared.prepare(
            root,
            packages=debs,
            wheels=Path(scratch, "wheels"),
            neutron=neutron,
        )
        play = Plays(root, Path(scratch), programs=ansible / "bin")
        play.perform(
            BY_PACKAGE, {"package_files": [str(path) for path in debs]}
        )
        play.perform(
            BY_PIP,
            {
                "install_method": "venv",
                "pip_environment": {
                    "PIP_NO_INDEX": "true",
                    "PIP_FIND_LINKS": prepared.WHEELS,
                },
            },
        )
        play.perform(
            FROM_NEUTRON,
            {"package_update_cache": False},
            before=lambda chassis: acts_migration.neutron_serves(
                chassis, neutron
            ),
        )
    print("all is as it should be")
    return 0


class Plays:
    """Acts, each list of them on a copy of ROOT that is booted."""

    def __init__(self, root: Path, scratch: Path, *, programs: Path) -> None:
        self._root = root
        self._scratch = scratch
        self._programs = programs

    def perform(
        self,
        acts: Sequence[Act],
        variables: Mapping[str, object],
        *,
        before: Callable[[Chassis], None] = lambda _: None,
    ) -> None:
        """Boot, do what is to be BEFORE, and every act with VARIABLES.

        Stops at the first that fails.
        """
        with (
            tempfile.TemporaryDirectory(dir=self._scratch) as folder,
            roots.copy(self._root) as root,
            Machine(root, Path(folder, "console")) as machine,
        ):
            chassis = Chassis(machine, ())
            chassis.furnish()
            before(chassis)
            control = Control(Path(folder), machine, programs=self._programs)
            control.let_in()
            for name, value in variables.items():
                control.variables[f"ovn_metadata_agent_{name}"] = value
            for act in acts:
                start = time.monotonic()
                print(f"-- {act.__name__}: {act.__doc__}")
                try:
                    act(chassis, control)
                except Exception:
                    print(machine.said("agent-status"))
                    for unit in UNITS:
                        print(chassis.journal(unit, "--lines=25"))
                    raise
                print(f"   {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
