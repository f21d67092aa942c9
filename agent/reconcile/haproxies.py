"""Bring one haproxy, a network's or the gateway, to what is wanted.

The same few steps each time: files first, then the program, then what
runs is compared with the files.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ...privsep import names
from ...privsep.settings import FleetSettings
from ..errors import HaproxyError
from ..haproxy import counters, files, runtime, stale_files
from ..haproxy.counters import Counted, NovaCounted
from ..haproxy.places import Places
from ..haproxy.render import Rendered
from ..haproxy.runtime import Stats
from .maps import Maps, Rights
from .privileged import Privileged

# From the program's start, or its SIGHUP, to its answer on the stats
# socket: some 50 ms; far more only where the machine is overloaded.
_ANSWER_TIMEOUT_S = 5.0
_ANSWER_POLL_S = 0.01
# Bytes; an entry of a counters' table has about 150.
_MAX_COUNTERS = 1 << 20


class Haproxies:
    """The haproxies of this host, each by its network (or "gateway")."""

    def __init__(
        self, privileged: Privileged, places: Places, *, fleet: FleetSettings
    ) -> None:
        self._privileged = privileged
        self.places = places
        self.fleet = fleet
        # Digests of configurations that haproxy has accepted.
        self._accepted: set[bytes] = set()
        self.maps = Maps(places, self._stats)

    def ensure(
        self,
        network: str,
        wanted: Rendered,
        rights: Rights | None,
    ) -> list[str]:
        """Have the haproxy of NETWORK run on WANTED; return what changed.

        RIGHTS gives its map; None for the gateway, which has none. Raises
        HaproxyError if haproxy refuses the configuration or does not come
        up; what ran before still runs.
        """
        uid = os.geteuid()
        if not all(f.is_made(uid) for f in self.fleet.folders(network)):
            self._privileged.make_folders(network)
        changes = self._ensure_files(network, wanted, rights)
        changes += self._ensure_program(network, wanted.digest)
        if rights is not None and self.maps.ensure(network, rights):
            changes.append("map")
        if network != names.GATEWAY:  # there its socket is published first
            self.remove_old_files(network)
        return changes

    def _ensure_program(self, network: str, digest: str) -> list[str]:
        """Have what runs be on DIGEST; return what changed."""
        program = self._privileged.ensure_program(network)
        running = runtime.running_digest(self._stats(network))
        if program["state"] == "running" and running is None:
            # Up for a second or more, and nobody listens: somebody has
            # removed the socket, and a reload would not make it again.
            program = self._privileged.ensure_program(network, renew=True)
        if program["state"] == "failing":
            raise HaproxyError(
                f"its haproxy ends as soon as it is started; it said: "
                f"{program['said']}"
            )
        is_new = program["state"] == "started"
        if running != digest:
            # One that was started now reads the new files.
            self._wait_for(network, digest, reload=not is_new)
        if is_new:
            return ["program"]
        return ["reload"] if running not in (None, digest) else []

    def run_as_it_is(self, network: str) -> None:
        """Have the haproxy of NETWORK run on the files that there are."""
        self._privileged.ensure_program(network)

    def counted(self, network: str) -> Counted:
        """Return what the haproxy of NETWORK (or gateway) has counted.

        Raises OSError and HaproxyError where it does not answer.
        """
        command = counters.command(is_gateway=network == names.GATEWAY)
        answer = runtime.ask(
            self._stats(network), command, max_bytes=_MAX_COUNTERS
        )
        return counters.parse(answer)

    def nova_counted(self) -> NovaCounted:
        """Return what the gateway has counted of Nova's answers.

        Raises OSError and HaproxyError where it does not answer.
        """
        answer = runtime.ask(self._stats(names.GATEWAY), counters.NOVA_COMMAND)
        return counters.parse_nova(answer)

    def _stats(self, network: str) -> Stats:
        uid = self.fleet.user_of(network).uid
        return Stats(self.places.stats(network), uid)

    def _ensure_files(
        self,
        network: str,
        wanted: Rendered,
        rights: Rights | None,
    ) -> list[str]:
        places = self.places
        changes = []
        if rights is not None and self.maps.write(network, rights):
            changes.append("map file")
        if files.write_checked(
            places.config(network),
            wanted.text,
            check=lambda path: self._check(network, wanted, path),
        ):
            changes.append("configuration")
        files.link(places.pid_link(network), places.pid(network))
        return changes

    def _check(self, network: str, wanted: Rendered, path: Path) -> None:
        """Have haproxy check PATH, unless it has accepted its like.

        Networks' configurations differ by the network's id alone; haproxy
        takes 20 ms for each, and a thousand may be wanted at once.
        """
        binary = Path(self.fleet.haproxy).stat()
        alike = wanted.text.replace(wanted.digest, "").replace(network, "-")
        alike += f"{binary.st_mtime_ns} {binary.st_size}"
        key = hashlib.sha256(alike.encode()).digest()
        if key not in self._accepted:
            files.check(path, self.fleet.haproxy)
            self._accepted.add(key)

    def replace(self, network: str, rights: Rights) -> None:
        """Start the haproxy of NETWORK anew, with RIGHTS and no others.

        For one that is not to be trusted any more to do as it is told.
        """
        self.maps.write(network, rights)
        self._privileged.ensure_program(network, renew=True)

    def remove_files(self, network: str) -> bool:
        """Remove the files of NETWORK; tell if there were any."""
        places = self.places
        found = [path for of, path in self._files() if of == network]
        removed = files.remove(*found, places.pid_link(network))
        stale_files.remove_old(places, network)
        return self._privileged.remove_folders(network) or removed

    def remove_old_files(self, network: str) -> None:
        """Remove what an agent before this one has of NETWORK."""
        stale_files.remove_old(self.places, network)

    def networks_of_files(self) -> set[str]:
        """Return the networks (and gateway) that have a file here."""
        folders = stale_files.network_folders(self.places)
        return {network for network, _ in (*self._files(), *folders)}

    def _files(self) -> Iterator[tuple[str, Path]]:
        uids = (self.fleet.uid, os.geteuid())
        return stale_files.haproxy_files(self.places, uids)

    def _wait_for(self, network: str, digest: str, *, reload: bool) -> None:
        """Wait until NETWORK's haproxy runs on DIGEST.

        There is no event to wait for: haproxy 2.6 tells nobody that a
        reload is done. With RELOAD a process that answers with another
        digest (it started on the old file, or was adopted) is reloaded, once.
        """
        socket = self._stats(network)
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while (running := runtime.running_digest(socket)) != digest:
            if running is not None and reload:
                self._privileged.reload_program(network)
                reload = False
            if time.monotonic() > deadline:
                raise HaproxyError(
                    "its haproxy does not answer with its new configuration"
                )
            time.sleep(_ANSWER_POLL_S)
