"""The systemd units, run as far as that goes without systemd.

What is a setting of the process itself is taken from the unit: command line,
bounding set, no_new_privs. Mounts and system call filters are systemd's:
`make boot` has those.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from . import host
from .daemons import Daemon

FOLDER = host.REPOSITORY / "etc" / "systemd"
AGENT = "ovn-metadata-agent.service"
FLEET = "ovn-metadata-fleet.service"
PRIVSEP = "ovn-metadata-privsep@.service"
PRIVSEP_SOCKET = "ovn-metadata-privsep.socket"


def settings(unit: str) -> dict[str, list[str]]:
    """Return what UNIT sets: name -> values, an empty one resets."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def capabilities(unit: str) -> frozenset[str]:
    """Return the capabilities that UNIT may have, as cap_net_admin."""
    (line,) = settings(unit)["CapabilityBoundingSet"]
    return frozenset(line.lower().split())


def bounded(unit: str) -> tuple[str, ...]:
    """Return the start of a command line that is held as UNIT is."""
    names = sorted(name.removeprefix("cap_") for name in capabilities(unit))
    kept = "".join(f",+{name}" for name in names if name)
    return ("setpriv", f"--bounding-set=-all{kept}", "--no-new-privs")


def command(unit: str) -> tuple[str, ...]:
    """Return the command line of UNIT, bounded, with our programs."""
    (line,) = settings(unit)["ExecStart"]
    line = host.relocate(line, Path(sys.prefix))
    return (*bounded(unit), *line.split())


def fleet(output: Path) -> Daemon:
    """Return the fleet's unit; OUTPUT is its journal."""
    return Daemon(
        name=FLEET,
        command=command(FLEET),
        output=output,
        ready=Path("/run/ovn-metadata-fleet/supervisord.sock"),
    )


class PrivsepSocket:
    """The socket unit: each that connects has the service started.

    OUTPUT is the services' journal.
    """

    def __init__(self, output: Path) -> None:
        where = settings(PRIVSEP_SOCKET)
        (self.path,) = map(Path, where["ListenStream"])
        (group,), (mode,) = where["SocketGroup"], where["SocketMode"]
        self._gid, self._mode = host.ids(group)[1], int(mode, 8)
        self._output = output
        self._socket = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> PrivsepSocket:
        """Listen."""
        self._socket.bind(str(self.path))
        os.chown(self.path, 0, self._gid)
        self.path.chmod(self._mode)
        self._socket.listen(8)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening; what was started goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._socket.close()
        self.path.unlink(missing_ok=True)
        self._thread.join(20)

    @property
    def started(self) -> int:
        """How many services were started."""
        return len(self._daemons)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, self._output.open("ab") as output:
                daemon = subprocess.Popen(
                    command(PRIVSEP),
                    stdin=connection,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                self._daemons.append(daemon)
