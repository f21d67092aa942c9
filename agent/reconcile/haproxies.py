"""Ensure that one haproxy, a network's or the gateway, runs as rendered."""

import contextlib
import functools
import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from ...privsep import names
from ...privsep.settings import FleetSettings
from ..errors import HaproxyError
from ..haproxy import counters, files, runtime
from ..haproxy.counters import Counted, NovaCounted
from ..haproxy.places import Places
from ..haproxy.render import Rendered
from ..haproxy.runtime import Quiet, Stats
from .maps import Maps, Rights
from .privileged import Privileged

LOG = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 5.0  # from a start: it takes 50 ms, if there is no load
_ANSWER_POLL_S = 0.01
_START_POLLS_S = 0.05, 0.4  # the first; the longest, since many may wait
# A haproxy that does not answer is asked after each pause, then replaced. The
# gateway is not replaced again within _REPLACE_S: all networks need it, and on
# a slow host the next one would be as slow. A network's haproxy is, because it
# may still have rights that were revoked.
_PAUSES_S = 0.0, 0.2
_REPLACE_S = 60.0
Program: TypeAlias = Mapping[str, str]  # as `ensure_program` returns it
# A file's inode and time of change; None: it is not there.
_Version: TypeAlias = tuple[int, int] | None
# Short: the reconcile that follows decides whether the haproxy hangs.
_COUNTERS_S = 1.5


class Haproxies:
    """The haproxies of this host; the key is the network or "gateway"."""

    def __init__(
        self, privileged: Privileged, places: Places, *, fleet: FleetSettings
    ) -> None:
        self.privileged = privileged
        self.places = places
        self.fleet = fleet
        # network -> its digest, and the version of its file that has our text
        self._known: dict[str, tuple[str, _Version]] = {}
        self.running: dict[str, str] = {}  # network -> digest, last time read
        # When the gateway was replaced, if it has not answered since.
        self._replaced = -math.inf
        # Digests of configurations that haproxy has accepted.
        self._accepted: set[bytes] = set()
        self.maps = Maps(places, self.stats)
        self._quiet: dict[str, Quiet] = {}

    def ensure_gateway(self, rendered: Rendered) -> list[str]:
        """Do what `listen` and `serve` do; return what changed."""
        ask = functools.partial(self._running, names.GATEWAY)
        replaced = self.ask_or_replace(names.GATEWAY, None, ask)
        changes, program = self.listen(names.GATEWAY, rendered, None)
        changes += self.serve(names.GATEWAY, rendered, None, program)
        return replaced + changes

    def listen(
        self, network: str, rendered: Rendered, rights: Rights | None
    ) -> tuple[list[str], Program]:
        """Ensure that supervisord holds the sockets of NETWORK's haproxy.

        Clients may come then: they wait until it accepts them, and a haproxy
        that starts reads its map from the file. RIGHTS returns the map; None
        for the gateway, which has none, and whose folders are there. Returns
        what changed, and the state of the program. Raises HaproxyError if
        haproxy refuses the configuration; one that ran before still runs.
        """
        before = self._known.get(network)
        changes: list[str] = []
        if rights is not None:
            try:
                self.ensure_folders(network)
                changes += self.maps.write(network, rights)
            finally:
                # Whatever fails here and below, the haproxy that still serves
                # has to have the instances that came.
                with contextlib.suppress(OSError, HaproxyError):
                    changes += self.maps.ensure(network, rights)
        is_changed, version = self._ensure_configuration(network, rendered)
        if is_changed:
            changes.append("configuration")
        program = self.privileged.ensure_program(network)
        if before is not None:
            is_changed = before[1] != version
        if is_changed and (
            program["state"] == "starting"
            or self._running(network) == rendered.digest
        ):
            # It may have read a configuration that somebody edited, with this
            # digest still in it.
            self.privileged.reload_program(network)
            changes.append("reload")
        self._known[network] = rendered.digest, version
        return changes, program

    def serve(
        self,
        network: str,
        rendered: Rendered,
        rights: Rights | None,
        program: Program,
    ) -> list[str]:
        """Ensure that it runs on RENDERED, after `listen`; say what changed.

        PROGRAM is what that returned. Raises HaproxyError if it can't start.
        """
        if network != names.GATEWAY and program["state"] == "starting":
            program = self._wait_until_serving(network)
        changes = self._ensure_program(network, rendered.digest, program)
        if network == names.GATEWAY:
            self._replaced = -math.inf
        if rights is not None:
            changes += self.maps.ensure(network, rights)
        # Last: it is for Neutron's agent alone, and state_path may be full.
        files.link(self.places.pid_link(network), self.places.pid(network))
        files.remove_old(self.places, network)
        return changes

    def _wait_until_serving(self, network: str) -> Program:
        """Wait for NETWORK's haproxy; until it serves, an older one does."""
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        pause_s, longest_s = _START_POLLS_S
        while True:
            program = self.privileged.ensure_program(network)
            if program["state"] != "starting":
                return program
            if time.monotonic() > deadline:
                raise HaproxyError("its haproxy takes long to start")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def _ensure_program(
        self, network: str, digest: str, program: Program
    ) -> list[str]:
        """Ensure the process of PROGRAM runs on DIGEST; say what changed."""
        running = self._running(network)
        if program["state"] == "running" and running is None:
            # It may have ended just then, and the next one starts.
            program = self.privileged.ensure_program(network)
            running = self._running(network)
        if program["state"] == "running" and running is None:
            # It listens and its stats socket is not there. It was removed; a
            # reload does not make it.
            program = self.privileged.renew_program(network)
        if program["state"] == "failing":
            raise _ends_at_once(program)
        is_new = program["state"] == "started"
        if running != digest:
            config = self.places.config(network)
            if running == "" and config.stat().st_mtime > time.time():
                # The clock went back: the file would seem to be newer than
                # any process.
                config.touch()
            # One that was started, or still starts, reads the new files: on a
            # slow host each try would start another gateway.
            reload = program["state"] == "running"
            self._wait_for(network, digest, reload=reload)
        if is_new:
            return ["program"]
        return ["reload"] if running not in (None, digest) else []

    def ensure_folders(self, network: str) -> None:
        """Ensure that the folders of NETWORK are there."""
        uid = os.geteuid()
        if not all(f.is_made(uid) for f in self.fleet.folders(network)):
            self.privileged.make_folders(network)

    def counted(self, network: str) -> Counted | None:
        """Return the counters of the haproxy of NETWORK (or "gateway").

        None if it has done nothing since they were read. Raises as `read`, and
        HaproxyError if it may not run on its configuration.
        """
        quiet = self._quiet.get(network)
        if quiet is not None and quiet.is_same():
            return None
        command = counters.command(is_gateway=network == names.GATEWAY)
        answer = self.read(network, command)
        config, stats = self.places.config(network), self.stats(network)
        digest = runtime.digest_in(answer, config)
        self.running[network] = digest
        now = digest, self._version(network)
        if now != self._known.get(network, now):
            raise HaproxyError("its configuration was changed by others")
        counted = counters.parse(answer)
        if network != names.GATEWAY:  # it may have several threads
            pid = counted.process.partition(" ")[0]
            self._quiet[network] = Quiet(pid, stats.uid, config, stats.path)
        return counted

    def read(self, network: str, command: str) -> str:
        """Return what the haproxy of NETWORK (or "gateway") says to COMMAND.

        Raises OSError and HaproxyError if it does not answer.
        """
        stats = self.stats(network)
        return runtime.ask(stats, command, timeout_s=_COUNTERS_S)

    def nova_counted(self) -> NovaCounted:
        """Return the gateway's counters of Nova's answers; raise as `read`."""
        answer = self.read(names.GATEWAY, counters.NOVA_COMMAND)
        return counters.parse_nova(answer)

    def stats(self, network: str) -> Stats:
        """Return the stats socket of NETWORK's haproxy (or the gateway's)."""
        uid = self.fleet.user_of(network).uid
        return Stats(self.places.stats(network), uid)

    def _version(self, network: str) -> _Version:
        with contextlib.suppress(FileNotFoundError):
            found = self.places.config(network).stat()
            return found.st_ino, found.st_mtime_ns
        return None

    def _running(self, network: str) -> str | None:
        config = self.places.config(network)
        return runtime.running_digest(self.stats(network), config)

    def _ensure_configuration(
        self, network: str, rendered: Rendered
    ) -> tuple[bool, _Version]:
        """Return whether it changed, and the version of its file."""
        config = self.places.config(network)
        check = functools.partial(self._check, network, rendered)
        version, is_changed = self._version(network), False
        # Once more after each change: somebody may edit it meanwhile.
        while files.write(config, rendered.text, check=check):
            version, is_changed = self._version(network), True
        return is_changed, version

    def _check(self, network: str, rendered: Rendered, path: Path) -> None:
        """Let haproxy check PATH, unless it has accepted the same text before.

        Configurations of networks often differ only in the network's id. A
        check takes 20 ms, and a thousand may be due at once.
        """
        binary = Path(self.fleet.haproxy).stat()
        alike = rendered.text.replace(rendered.digest, "")
        alike = alike.replace(network, "-")
        alike += f"{binary.st_mtime_ns} {binary.st_size}"
        key = hashlib.sha256(alike.encode()).digest()
        if key not in self._accepted:
            files.check(path, self.fleet.haproxy)
            self._accepted.add(key)

    def ask_or_replace(
        self, network: str, rights: Rights | None, ask: Callable[[], object]
    ) -> list[str]:
        """Do ASK; replace the haproxy of NETWORK if it does not answer.

        The next one has what RIGHTS (None for the gateway) still has of the
        map: without neighbour entries there may be no more. It serves the
        clients that wait. Returns what changed. Raises HaproxyError if the
        next gateway does not answer either.
        """
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            try:
                ask()
            except (TimeoutError, HaproxyError) as error:
                problem = error
            else:
                return []
        if rights is not None:
            self.maps.keep(network, rights)
        else:
            now = time.monotonic()
            if now < self._replaced + _REPLACE_S:
                raise HaproxyError(
                    f"the gateway was replaced and does not answer: {problem}"
                )
            self._replaced = now
        LOG.warning("network=%s haproxy replaced: %s", network, problem)
        self.privileged.renew_program(network)
        return ["hang"]

    def remove_files(self, network: str) -> bool:
        """Remove the files of NETWORK; return whether there were any."""
        for kept in (self._known, self.running, self._quiet):
            kept.pop(network, None)
        places = self.places
        found = [path for of, path in self._files() if of == network]
        removed = files.remove(*found, places.pid_link(network))
        files.remove_old(places, network)
        return self.privileged.remove_folders(network) or removed

    def networks_of_files(self) -> set[str]:
        """Return the networks (or "gateway") that have a file here."""
        folders = files.network_folders(self.places)
        return {network for network, _ in (*self._files(), *folders)}

    def _files(self) -> Iterator[tuple[str, Path]]:
        uids = (self.fleet.uid, os.geteuid())
        return files.haproxy_files(self.places, uids)

    def _wait_for(self, network: str, digest: str, *, reload: bool) -> None:
        """Wait until NETWORK's haproxy runs on DIGEST.

        There is no event to wait for. With RELOAD, a process that answers
        with another digest is reloaded, once: it has the old file.
        """
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while True:
            running = None
            with contextlib.suppress(TimeoutError):  # it is busy
                running = self._running(network)
            if running == digest:
                return
            if running is not None and reload:
                self.privileged.reload_program(network)
                reload = False
            if time.monotonic() > deadline:
                program = self.privileged.ensure_program(network)
                if program["complaint"]:
                    raise _ends_at_once(program)
                raise HaproxyError(
                    "its haproxy does not answer with its new configuration"
                )
            time.sleep(_ANSWER_POLL_S)


def _ends_at_once(program: Program) -> HaproxyError:
    why = program["complaint"] or "it logged no reason; was it killed?"
    return HaproxyError(f"its haproxy ends right after its start; {why}")
