"""Whose each address is: in a network's map file, and in what runs on it.

A haproxy that starts reads the file, one that runs is told. Whose an
address is is found out when it is used, not before: what is done for a
network may take a while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ...privsep.keyed_locks import KeyedLocks
from ..haproxy import files, mapfile, runtime
from ..haproxy.places import Places
from ..haproxy.runtime import Stats

# What a network may have had before it is left with fewer.
_MANY_ENTRIES = 4096

# Gives a network's map as it is to be now.
Rights: TypeAlias = Callable[[], Mapping[str, str]]


class Maps:
    """The maps of the networks' haproxies; STATS_OF gives their sockets."""

    def __init__(
        self, places: Places, stats_of: Callable[[str], Stats]
    ) -> None:
        self._places = places
        self._stats_of = stats_of
        # One thread at a time changes a map, from its look at the rights.
        self._locks = KeyedLocks()

    def write(self, network: str, rights: Rights) -> bool:
        """Have RIGHTS in the file of NETWORK; tell whether they were not."""
        with self._locks.held(network):
            text = mapfile.render_map(rights())
            return files.write(self._places.map(network), text)

    def ensure(self, network: str, rights: Rights) -> bool:
        """Have RIGHTS in the haproxy too; tell whether it had others.

        Raises OSError and HaproxyError where it does not do as it is told.
        """
        socket, file = self._stats_of(network), self._places.map(network)
        with self._locks.held(network):
            wanted = rights()
            files.write(file, mapfile.render_map(wanted))
            present = runtime.read_map(socket, file, entries=len(wanted))
            change = mapfile.change(present, wanted)
            runtime.change_map(socket, file, change)
            return bool(change)

    def revoke(
        self, network: str, rights: Callable[[], Mapping[str, str] | None]
    ) -> tuple[str, ...]:
        """Take from NETWORK's haproxy what RIGHTS has not; grant nothing.

        Returns the addresses that it took; without RIGHTS (None) none.
        To be done before anything else: what comes between may fail or
        hang, and no address may speak for its last owner. Raises OSError
        and HaproxyError where it does not do as it is told.
        """
        with self._locks.held(network):
            wanted = rights()
            return () if wanted is None else self._revoke(network, wanted)

    def _revoke(
        self, network: str, wanted: Mapping[str, str]
    ) -> tuple[str, ...]:
        socket, file = self._stats_of(network), self._places.map(network)
        is_running = True
        entries = max(len(wanted), _MANY_ENTRIES)
        try:
            present = runtime.read_map(socket, file, entries=entries)
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
        if kept == present:
            return ()
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
                runtime.change_map(socket, file, change)
        return tuple(sorted(present.keys() - kept.keys()))
