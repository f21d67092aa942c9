"""podman in the sandbox, and the containers as their Quadlet files say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandbox import host, namespaces

QUADLET = host.REPOSITORY / "packaging" / "container" / "quadlet"

_CGROUPS = Path("/sys/fs/cgroup")
_CONFIG = Path("/run/containers.conf")
_COMMAND = Path("/run/podman-here")
# Nothing of the machine's own podman is used, or of its locks in /dev/shm.
_CONFIG_TEXT = """\
[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "crun"
"""
# What Quadlet makes of a key of [Container], as podman-run(1) has it.
_OPTIONS = {
    "ContainerName": "--name",
    "Network": "--network",
    "DropCapability": "--cap-drop",
    "PidsLimit": "--pids-limit",
    "Volume": "--volume",
    "HealthCmd": "--health-cmd",
    "HealthStartPeriod": "--health-start-period",
}
_FLAGS = {
    "NoNewPrivileges": "--security-opt=no-new-privileges",
    "ReadOnly": "--read-only",
    "SecurityLabelDisable": "--security-opt=label=disable",
}
_ELSEWHERE = (
    *("Image", "Exec", "AddCapability"),
    "Ulimit",  # to raise one takes a right that a machine for tests may lack
)


class EngineError(Exception):
    """A command of podman's that failed, with what it said."""


def read_unit(path: Path) -> dict[str, list[str]]:
    """Return what [Container] of the Quadlet file PATH sets."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if line.startswith("["):
            section = line
        elif section == "[Container]" and equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def capabilities(unit: dict[str, list[str]]) -> list[str]:
    """Return the capabilities that a container of UNIT has."""
    return [word for line in unit["AddCapability"] for word in line.split()]


def run_arguments(
    unit: dict[str, list[str]],
    *,
    image: str,
    kept: Iterable[str] | None = None,
    command: Sequence[str] = (),
) -> list[str]:
    """Return podman-run(1)'s arguments that start UNIT with IMAGE.

    KEPT: with these capabilities instead; COMMAND: with this instead. A key
    that is not known here is an error: it would not be tried.
    """
    # Health checks are run by the test: a timer would be systemd's.
    found = ["--detach", "--health-interval=disable"]
    for name, values in unit.items():
        if name in _OPTIONS:
            found += [f"{_OPTIONS[name]}={value}" for value in values]
        elif name in _FLAGS:
            found += [_FLAGS[name]]
        elif name == "PodmanArgs":
            found += [word for value in values for word in value.split()]
        elif name not in _ELSEWHERE:
            raise EngineError(f"{name}= is not known here")
    names = capabilities(unit) if kept is None else kept
    found += [f"--cap-add={name}" for name in names]
    (line,) = unit["Exec"]
    return [*found, image, *(command or line.split())]


class Engine:
    """podman with the images in the folder STORE, in this sandbox only."""

    def __init__(self, store: Path) -> None:
        _mount_cgroups()
        _CONFIG.write_text(_CONFIG_TEXT)
        _COMMAND.write_text(
            f"#!/bin/sh\nexport CONTAINERS_CONF={_CONFIG}\n"
            f"exec podman --root {store / 'images'} --runroot /run/podman "
            f'--tmpdir /run/podman-tmp --storage-driver overlay "$@"\n'
        )
        _COMMAND.chmod(0o755)
        self.command = str(_COMMAND)

    def run(self, *words: str, timeout_s: float = 60) -> str:
        """Run podman with WORDS; return its output. Raises EngineError."""
        done = self.tried(*words, timeout_s=timeout_s)
        if done.returncode != 0:
            raise EngineError(
                f"podman {' '.join(words)}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def tried(
        self, *words: str, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run podman with WORDS, whatever comes of it."""
        return subprocess.run(
            (self.command, *words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def remove_all(self) -> None:
        """Remove every container there is, and what they kept."""
        self.run("rm", "--all", "--force", "--time=0")
        self.run("volume", "rm", "--all", "--force")

    def logs(self) -> str:
        """Return the end of what each container printed."""
        found = []
        for name in self.run("ps", "--all", "--format={{.Names}}").split():
            done = self.tried("logs", "--tail=40", name)
            found.append(f"{name}:\n{done.stdout}{done.stderr}")
        return "\n".join(found)


def _mount_cgroups() -> None:
    """Have the machine's control groups where podman looks for them.

    The sandbox has a /sys of its own, which comes without.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    old = [line.split(":")[1] for line in lines if line.split(":")[1]]
    if not old:
        namespaces.mount("cgroup2", str(_CGROUPS), "cgroup2")
        return
    namespaces.mount("tmpfs", str(_CGROUPS), "tmpfs")
    for controllers in old:
        folder = _CGROUPS / controllers.removeprefix("name=")
        folder.mkdir()
        namespaces.mount("cgroup", str(folder), "cgroup", data=controllers)
