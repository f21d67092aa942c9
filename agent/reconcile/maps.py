"""Keep a network's map, from addresses to instances, up to date.

The map is in a file, which haproxy reads when it starts, and in the running
haproxy, which is changed with commands on its stats socket. Callers pass a
function that returns the map, because a reconcile may take a while: the map
is computed at the moment of its use.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ...privsep.keyed_locks import KeyedLocks
from ..errors import HaproxyError
from ..haproxy import files, mapfile, runtime
from ..haproxy.places import Places
from ..haproxy.runtime import Stats

_NOT_THERE = FileNotFoundError, ConnectionError, PermissionError

# Returns a network's map as the rows are now.
Rights: TypeAlias = Callable[[], Mapping[str, str]]


class Maps:
    """The maps of all networks; STATS_OF returns a stats socket.

    All raise OSError and HaproxyError if haproxy does not answer as it should.
    """

    def __init__(
        self, places: Places, stats_of: Callable[[str], Stats]
    ) -> None:
        self._places = places
        self._stats_of = stats_of
        # Held from computing a map until haproxy has it, so that no older
        # map overwrites a newer one.
        self._locks = KeyedLocks()

    def write(self, network: str, rights: Rights) -> list[str]:
        """Write RIGHTS into the file of NETWORK; return what changed."""
        with self._locks.held(network):
            return self._write(network, rights())

    def _write(self, network: str, wanted: Mapping[str, str]) -> list[str]:
        text = mapfile.render_map(wanted)
        changed = files.write(self._places.map(network), text)
        return ["map file"] if changed else []

    def keep(self, network: str, rights: Rights) -> None:
        """Write the entries of RIGHTS whose owners NETWORK's file has."""
        with self._locks.held(network):
            present = self._in_file(network)
            self._write(network, mapfile.common(present, rights()))

    def _in_file(self, network: str) -> dict[str, str]:
        return mapfile.parse_file(files.read(self._places.map(network)))

    def ensure(self, network: str, rights: Rights) -> list[str]:
        """Write RIGHTS into the file and the haproxy; return what changed."""
        stats, file = self._stats_of(network), self._places.map(network)
        with self._locks.held(network):
            wanted = rights()
            changes = []
            try:
                changes = self._write(network, wanted)
            finally:  # the haproxy that runs needs no room on the disk
                present = runtime.read_map(stats, file)
                if commands := mapfile.commands(file, present, wanted):
                    runtime.change_map(stats, commands)
                    changes.append("map")
            return changes

    def revoke(
        self, network: str, rights: Callable[[], Mapping[str, str] | None]
    ) -> tuple[str, ...]:
        """Remove the entries that RIGHTS does not have; add nothing.

        Returns the addresses removed; none if RIGHTS returns None. Call it
        before any other step, which may fail or hang: an address must not
        get the metadata of its last owner.
        """
        stats, file = self._stats_of(network), self._places.map(network)
        with self._locks.held(network):
            if (wanted := rights()) is None:
                return ()
            problem: Exception | None = None
            try:
                present = runtime.read_map(stats, file)
            except (OSError, HaproxyError) as error:
                # No process listens, it ends, hangs, or something else has the
                # name. A haproxy that starts just now reads the file.
                problem, present = error, self._in_file(network)
            if isinstance(problem, PermissionError) and present != wanted:
                # It serves, and can be changed by a new start alone.
                raise HaproxyError(f"map not changed: {problem}")
            kept = mapfile.common(wanted, present)
            try:
                # The file first: a haproxy that starts now reads it.
                if kept != present:
                    self._write(network, kept)
            except OSError:
                # The disk is full or broken. No file is better than this one.
                with contextlib.suppress(OSError):
                    file.unlink()
                raise
            finally:
                if problem is None:
                    commands = mapfile.commands(file, present, kept)
                    runtime.change_map(stats, commands)
            if problem is not None and not isinstance(problem, _NOT_THERE):
                raise problem
            return tuple(sorted(present.keys() - kept.keys()))
