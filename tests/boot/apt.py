"""apt in the machine: without a network, from archives that are there."""

from __future__ import annotations

from .machine import Machine

_ENVIRONMENT = (
    "DEBIAN_FRONTEND=noninteractive",
    # Nobody's root has no password but this one's.
    "SUDO_FORCE_REMOVE=yes",
)
_APT = ("env", *_ENVIRONMENT, "apt-get", "-y", "-q")
_TIMEOUT_S = 300


class Apt:
    """What operators do with packages, on MACHINE."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def install(self, *packages: str, options: tuple[str, ...] = ()) -> str:
        """Install or upgrade; return all that was said.

        Raises RuntimeError if apt says that it failed.
        """
        return self._apt("install", *options, *packages)

    def remove(self, *packages: str) -> str:
        """Remove; configuration and data stay."""
        return self._apt("remove", *packages)

    def purge(self, *packages: str) -> str:
        """Remove all of it."""
        return self._apt("purge", *packages)

    def autoremove(self) -> str:
        """Purge what was installed for others and is needed no more."""
        return self._apt("autoremove", "--purge")

    def state(self, package: str) -> str:
        """Return dpkg's words: "install ok installed", say; or nothing."""
        ask = ("dpkg-query", "--show", "--showformat=${Status}", package)
        try:
            return self.machine.run(*ask)
        except RuntimeError:
            return ""

    def version(self, package: str) -> str:
        """Return the version that is installed."""
        ask = ("dpkg-query", "--show", "--showformat=${Version}", package)
        return self.machine.run(*ask)

    def _apt(self, *words: str) -> str:
        both = ("sh", "-c", 'exec "$@" 2>&1', "sh")
        return self.machine.run(*both, *_APT, *words, timeout_s=_TIMEOUT_S)
