"""Bring one haproxy, a network's or the gateway, to what is wanted.

The same few steps each time: files first, then the program, then what
runs is compared with the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from ..privsep.keyed_locks import KeyedLocks
from ..privsep.settings import FleetSettings
from . import names
from .errors import HaproxyError
from .haproxy import (
    counters,
    files,
    leftovers,
    mapfile,
    sharing,
    stats,
)
from .haproxy.counters import Counted, NovaCounted
from .haproxy.places import Places
from .haproxy.render import Rendered
from .haproxy.stats import Stats
from .host import Host

LOG = logging.getLogger(__name__)

# From the program's start, or its SIGHUP, to its answer on the stats
# socket: some 50 ms; far more only where the machine is overloaded.
_ANSWER_TIMEOUT_S = 5.0
_ANSWER_POLL_S = 0.01
# What a network may have had before it is left with fewer.
_MANY_ENTRIES = 4096
# Bytes; an entry of a counters' table has about 150.
_MAX_COUNTERS = 1 << 20


# Gives a network's map as it is to be now: looked up when it is used.
Rights: TypeAlias = Callable[[], Mapping[str, str]]


class Proxies:
    """The haproxies of this host, each by its network (or "gateway")."""

    def __init__(
        self, host: Host, places: Places, *, fleet: FleetSettings
    ) -> None:
        self._host = host
        self.places = places
        self.fleet = fleet
        # Digests of configurations that haproxy has accepted.
        self._accepted: set[bytes] = set()
        # One thread at a time changes a map, from its look at what is wanted.
        self._map_locks = KeyedLocks()

    def ensure(
        self,
        network: str,
        wanted: Rendered,
        rights: Rights | None,
        *,
        renew: bool = False,
    ) -> list[str]:
        """Have the haproxy of NETWORK run on WANTED; return what changed.

        RIGHTS gives its map; None for the gateway, which has none. RENEW
        starts it anew: what it had bound to is gone. Raises HaproxyError
        if haproxy refuses the configuration or does not come up; what ran
        before runs on.
        """
        if not sharing.make_folders(self.places, self.fleet, network):
            self._host.share_folders(network)
        sharing.clear_foreign_files(self.places, self.fleet, network)
        changes = self._ensure_files(network, wanted, rights)
        program = self._host.ensure_program(network, renew=renew)
        running = stats.running_digest(self._stats(network))
        if program["state"] == "running" and running is None:
            # Up for a second or more, and nobody listens: somebody has
            # removed the socket, and a reload would not make it again.
            program = self._host.ensure_program(network, renew=True)
        if program["state"] == "failing":
            raise HaproxyError(
                f"its haproxy ends as soon as it is started; it said: "
                f"{program['said']}"
            )
        if program["state"] == "started":
            changes.append("program")
        elif running is not None and running != wanted.digest:
            changes.append("reload")
        if running != wanted.digest:
            self._wait_for(network, wanted.digest)
        if program["state"] == "started":
            self._host.succeed(network)
        if rights is not None:
            changes += self._ensure_map(network, rights)
        return changes

    def run_as_it_is(self, network: str) -> None:
        """Have the haproxy of NETWORK run on the files that there are."""
        self._host.ensure_program(network)

    def counted(self, network: str) -> Counted:
        """Return what the haproxy of NETWORK (or gateway) has counted.

        Raises OSError and HaproxyError where it does not answer.
        """
        command = counters.command(is_gateway=network == names.GATEWAY)
        answer = stats.ask(
            self._stats(network), command, max_bytes=_MAX_COUNTERS
        )
        return counters.parse(answer)

    def nova_counted(self) -> NovaCounted:
        """Return what the gateway has counted of Nova's answers.

        Raises OSError and HaproxyError where it does not answer.
        """
        answer = stats.ask(self._stats(names.GATEWAY), counters.NOVA_COMMAND)
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
        if rights is not None:
            with self._map_locks.held(network):
                text = mapfile.render_map(rights())
                if files.write(places.map(network), text):
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
        alike = alike.replace(names.inner_veth(network), "-")
        alike += f"{binary.st_mtime_ns} {binary.st_size}"
        key = hashlib.sha256(alike.encode()).digest()
        if key not in self._accepted:
            files.check(path, self.fleet.haproxy)
            self._accepted.add(key)

    def revoke(
        self, network: str, rights: Callable[[], Mapping[str, str] | None]
    ) -> tuple[str, ...]:
        """Take from NETWORK's haproxy what RIGHTS has not; grant nothing.

        Returns the addresses that it took; without RIGHTS (None) none.
        To be done before anything else: what comes between may fail or
        hang, and no address may speak for who had it before. Raises OSError
        and HaproxyError where it does not do as it is told.
        """
        with self._map_locks.held(network):
            wanted = rights()
            return () if wanted is None else self._revoke(network, wanted)

    def _revoke(
        self, network: str, wanted: Mapping[str, str]
    ) -> tuple[str, ...]:
        socket, file = self._stats(network), self.places.map(network)
        is_running = True
        try:
            present = stats.read_map(
                socket, file, entries=max(len(wanted), _MANY_ENTRIES)
            )
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            # Nobody listens, or something else has the name. One that
            # starts just now reads the file.
            is_running = False
            present = mapfile.parse_file(files.read(file))
        kept = {
            key: value
            for key, value in present.items()
            if mapfile.same_owner(wanted.get(key, ""), value)
        }
        if kept != present:
            try:
                # The file first: one that is started now reads it.
                files.write(file, mapfile.render_map(kept))
            except OSError:
                # A disk that takes nothing. Better none than the old one.
                with contextlib.suppress(OSError):
                    file.unlink()
                raise
            finally:
                if is_running:
                    change = mapfile.change(present, kept)
                    stats.change_map(socket, file, change)
        return tuple(sorted(present.keys() - kept.keys()))

    def replace(self, network: str, rights: Rights) -> None:
        """Start the haproxy of NETWORK anew, with RIGHTS and no others.

        For one that is not to be trusted any more to do as it is told.
        """
        with self._map_locks.held(network):
            text = mapfile.render_map(rights())
            files.write(self.places.map(network), text)
        self._host.ensure_program(network, renew=True)

    def remove_files(self, network: str) -> bool:
        """Remove the files of NETWORK; tell if there were any."""
        places = self.places
        found = [path for of, path in self._files() if of == network]
        removed = files.remove(*found, places.pid_link(network))
        for folder in (
            places.read_folder(network),
            places.work_folder(network),
        ):
            removed |= files.remove_folder(folder)
        return removed

    def networks_of_files(self) -> set[str]:
        """Return the networks (and gateway) that have a file here."""
        folders = leftovers.network_folders(self.places)
        return {network for network, _ in (*self._files(), *folders)}

    def _files(self) -> Iterator[tuple[str, Path]]:
        uids = (self.fleet.uid, os.geteuid())
        return leftovers.haproxy_files(self.places, uids)

    def _ensure_map(self, network: str, rights: Rights) -> list[str]:
        socket, file = self._stats(network), self.places.map(network)
        with self._map_locks.held(network):
            wanted = rights()
            # What came or went since the file was written.
            files.write(file, mapfile.render_map(wanted))
            present = stats.read_map(socket, file, entries=len(wanted))
            change = mapfile.change(present, wanted)
            if not change:
                return []
            stats.change_map(socket, file, change)
            return ["map"]

    def _wait_for(self, network: str, digest: str) -> None:
        """Wait until NETWORK's haproxy runs on DIGEST.

        There is no event to wait for: haproxy 2.6 tells nobody that a
        reload is done. A process that answers with another digest (it
        started on the old file, or was adopted) is reloaded, once.
        """
        socket = self._stats(network)
        reload = True
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while (running := stats.running_digest(socket)) != digest:
            if running is not None and reload:
                self._host.reload_program(network)
                reload = False
            if time.monotonic() > deadline:
                raise HaproxyError(
                    "its haproxy does not answer with its new configuration"
                )
            time.sleep(_ANSWER_POLL_S)
