"""`ovn-metadata-cleanup`: remove all of the agent's from this host.

As the agent removes a network that is no longer wanted, with nothing wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
import sys
import time
from collections.abc import (
    Callable,
    Collection,
    Mapping,
    Sequence,
    Set,
)
from concurrent.futures import ThreadPoolExecutor

from oslo_privsep.comm import PrivsepTimeout

from ...privsep import context, names
from ...privsep import settings as privileged
from ...privsep.errors import PrivilegedError
from .. import unixsocket
from ..config import options
from ..config.settings import Settings
from ..errors import AgentError, StartError
from ..haproxy import stale_files
from ..model import VswitchPort, VswitchSnapshot
from ..ovsdb import connect, registration, vswitch
from ..ovsdb.heartbeat import BRIDGE_KEY
from ..reconcile.haproxies import Haproxies
from ..reconcile.privileged import Privileged
from ..reconcile.traces import Traces
from ..startup import daemon, folders

PROGRAM = "ovn-metadata-cleanup"
OK, FAILED, INCOMPLETE = 0, 1, 2
USAGE = 64  # EX_USAGE, <sysexits.h>
_TIMEOUT_S = 10
# What ends, or was about to start, takes a moment.
_ROUNDS = 10
_PAUSE_S = 0.5
_EPILOG = """\
All other options are the agent's: give it the same configuration files.

exit code: 0 nothing of ours is left (--dry-run: all was looked at); 1 a thing
could not be removed, or the agent runs; 2 all is gone where it could look, but
a database does not answer; 64 wrong usage
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What there is of ours at one moment."""

    networks: Mapping[str, Set[str]]  # or "gateway" -> kinds of things
    others: Mapping[str, Callable[[], object]]  # name -> how it is removed
    left: Sequence[str] = ()  # not ours to remove, each with the reason
    unseen: Sequence[str] = ()  # databases that did not answer, with why
    is_fleet_up: bool = False  # supervisord runs, or a haproxy

    def lines(self) -> dict[str, str]:
        """Return a line about each thing, by a name that stays the same."""
        networks = {
            _title(network): f"{_title(network)}: {', '.join(sorted(kinds))}"
            for network, kinds in sorted(self.networks.items())
        }
        return networks | {name: name for name in self.others}

    def asides(self) -> list[str]:
        """Return a line about each thing that is no work, and why."""
        return [
            *(f"left alone: {text}" for text in self.left),
            *(f"not looked at: {text}" for text in self.unseen),
        ]


def main(argv: list[str] | None = None) -> int:
    """Remove everything, or list what would be; return the exit code."""
    dry, rest = _parse(sys.argv[1:] if argv is None else argv)
    # What libraries warn of is reported with the result.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        lines, code = _run(_settings(rest), dry=dry)
    except (AgentError, PrivilegedError, PrivsepTimeout, OSError) as error:
        print(f"{PROGRAM}: {_reason(error)}", file=sys.stderr)
        return FAILED
    finally:
        context.stop_daemon()
    print("\n".join(lines))
    return code


def _parse(argv: list[str]) -> tuple[bool, list[str]]:
    """Return whether this is a dry run, and the agent's options."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [--dry-run] [--config-file FILE] ...",
        allow_abbrev=False,
        description="Remove all of the agent's from this host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list it and change nothing"
    )
    arguments, rest = parser.parse_known_args(argv)
    return arguments.dry_run, rest


def _settings(argv: list[str]) -> Settings:
    """Return the agent's settings with the arguments ARGV."""
    try:
        return options.load(argv, "ovn-metadata-agent")[1]
    except SystemExit as end:
        # oslo.config's parser ends with a 2, which is one of ours.
        raise SystemExit(USAGE if end.code == 2 else end.code) from None


def _run(settings: Settings, *, dry: bool) -> tuple[list[str], int]:
    """Do it, or look only; return what to print and the exit code."""
    # haproxy may have been uninstalled already.
    fleet = privileged.load(settings.privileged_config, runnable=False)
    # As who we still are: the agent's user may be another one.
    lock = folders.keep_agent_away(fleet.agent_lock)
    with lock or contextlib.nullcontext():
        # Before anything changes its owner: a refused run changes nothing.
        if unixsocket.is_listening(settings.proxy_socket):
            raise StartError(
                f"another metadata agent listens on {settings.proxy_socket}; "
                f"stop it first"
            )
        daemon.become_service_user(settings, make=False, hand_over=not dry)
        daemon.start_daemon()
        cleanup = Cleanup(settings, fleet)
        before = cleanup.look()
        if dry:
            return tell_plan(before)
        after, errors = cleanup.remove_all(before)
        return tell_result(before, after, errors)


class Cleanup:
    """Looks at this host and removes what is ours, until there is nothing."""

    def __init__(
        self, settings: Settings, fleet: privileged.FleetSettings
    ) -> None:
        self._settings = settings
        self._places = folders.places(settings, fleet)
        self._privileged = Privileged(
            state_path=settings.state_path, users=fleet.users
        )
        self._southbound = ",".join(settings.southbound.remotes)
        self._unseen: list[str] = []
        self._snapshot = VswitchSnapshot()
        self._traces = Traces(
            self._privileged,
            Haproxies(self._privileged, self._places, fleet=fleet),
            self._connect_vswitch(),
            lambda: self._snapshot,
        )

    def _connect_vswitch(self) -> vswitch.Vswitch | None:
        """Return the local database, if it answers."""
        remote = self._settings.vswitch.connection
        tls = self._settings.southbound  # the library knows one set
        connect.use_certificates(tls.private_key, tls.certificate, tls.ca_cert)
        given = vswitch.given_chassis_name(self._settings.chassis_name)
        try:
            idl = vswitch.VswitchIdl(
                remote,
                vswitch.make_helper(remote),
                chassis_name=given,
                on_snapshot=self._note,
            )
            return vswitch.Vswitch(connect.start(idl, _TIMEOUT_S))
        # ovsdbapp raises a bare Exception when no server answers.
        except Exception as error:  # noqa: BLE001
            self._unseen += [
                f"Open vSwitch at {remote}: {error}",
                "the registration in OVN Southbound: system-id is not known",
            ]
            return None

    def _note(self, snapshot: VswitchSnapshot) -> None:
        self._snapshot = snapshot

    def look(self) -> Found:
        """Return what there is now; change nothing."""
        fleet = self._privileged.look()
        keys, localports = self._registered()
        networks = self._traces.find(
            {
                "program": fleet["programs"],
                "haproxy": fleet["haproxies"],
                "port": localports,
            }
        )
        left = ports_left(self._snapshot.ports, networks)
        others: dict[str, Callable[[], object]] = {}
        if fleet["is_service"]:
            left.append("supervisord: ovn-metadata-fleet runs it; stop that")
        elif fleet["folder"]:
            others[f"fleet in {fleet['folder']}"] = self._privileged.shut_down
        others |= self._shared_files(left)
        for key in registration.KEYS:
            if key in keys:
                name = f"registration {key} in Chassis_Private"
                others[name] = self._unregister
        if BRIDGE_KEY in keys:
            left.append(
                f"{BRIDGE_KEY} in Chassis_Private: Neutron plugs instances "
                f"by it; it goes with the chassis"
            )
        is_up = bool(fleet["supervisord"] or fleet["haproxies"])
        return Found(networks, others, left, [*self._unseen], is_up)

    def _shared_files(
        self, left: list[str]
    ) -> dict[str, Callable[[], object]]:
        """Return the files and folders of no network; add what is LEFT."""
        places, public = self._places, self._settings.proxy_socket
        tmp = public.with_name(f".{public.name}.tmp")
        found: dict[str, Callable[[], object]] = {
            f"file {path}": path.unlink
            for path in (public, tmp, self._settings.status_socket)
            # Neutron's agent makes a socket.
            if places.is_link_of_ours(path)
            or (path.is_socket() and not path.is_symlink())
        }
        top = places.old_folder
        others = [
            path
            for path in stale_files.entries(top)
            if path not in places.old_folders and not stale_files.is_ours(path)
        ]
        if others:
            left.append(f"folder {top}: holds other things, {len(others)}")
        elif top.is_dir():
            found[f"folder {top}"] = functools.partial(
                stale_files.remove_old, places, names.GATEWAY
            )
        return found

    def _registered(self) -> tuple[Set[str], Set[str]]:
        """Return what `registration.read` does; nothing without databases."""
        if not self._unseen:
            try:
                return registration.read(self._southbound, self._snapshot)
            except OSError as error:
                self._unseen.append(
                    f"OVN Southbound at {self._southbound}: {error}"
                )
        return set(), set()

    def _unregister(self) -> None:
        registration.remove(self._southbound, self._snapshot.system_id)

    def remove_all(self, found: Found) -> tuple[Found, dict[str, str]]:
        """Remove what is FOUND, and what comes meanwhile, until it is gone.

        Returns what is there then, and why it could not be removed.
        """
        errors: dict[str, str] = {}
        for _ in range(_ROUNDS):
            if not found.lines():
                break
            errors = self._remove(found)
            found = self.look()
            if found.lines():
                time.sleep(_PAUSE_S)  # there is no event of their end
        return found, errors

    def _remove(self, found: Found) -> dict[str, str]:
        """Remove what is FOUND; return the names of what failed, and why."""
        errors: dict[str, str] = {}

        def attempt(name: str, act: Callable[[], object]) -> None:
            try:
                act()
            # Whatever it was, the rest goes on; and it is reported.
            except Exception as error:  # noqa: BLE001
                errors[name] = _reason(error)

        with ThreadPoolExecutor(self._settings.reconcile_workers) as pool:
            for network in found.networks:
                remove = functools.partial(
                    self._traces.remove, network, program=found.is_fleet_up
                )
                pool.submit(attempt, _title(network), remove)
        if any("haproxy" in kinds for kinds in found.networks.values()):
            # For the next round: those that no supervisord knows. One that
            # is started now has no programs left to start.
            attempt("supervisord", self._privileged.list_programs)
            attempt("supervisord", self._privileged.sweep)
        for name, act in found.others.items():
            attempt(name, act)
        return errors


def ports_left(
    ports: Mapping[str, VswitchPort], networks: Collection[str]
) -> list[str]:
    """Return which of PORTS stay though they look like ours, and why.

    An instance's port is tap and eleven letters of the port's id; ours is
    tap, ten of the network's and a zero. So a port is ours by our mark, or
    where its name leads to one of NETWORKS. It never is if Nova has noted
    on it whose it is.
    """
    by_name = {names.outer_veth(network): network for network in networks}
    left = []
    for name, port in sorted(ports.items()):
        network = port.network or by_name.get(name)
        if port.is_instance and network:
            left.append(
                f"OVS port {name}: named like that of network {network}, "
                f"but an instance's"
            )
        elif not port.is_instance and not network:
            left.append(
                f"OVS port {name}: named like ours, but nothing else says so; "
                f"if it is no instance's: ovs-vsctl del-port {name}"
            )
    return left


def tell_plan(found: Found) -> tuple[list[str], int]:
    """Return what a dry run prints about FOUND, and its exit code."""
    lines = [f"would remove {line}" for line in found.lines().values()]
    lines = lines or ["nothing to remove"]
    return [*found.asides(), *lines], INCOMPLETE if found.unseen else OK


def tell_result(
    before: Found, after: Found, errors: Mapping[str, str]
) -> tuple[list[str], int]:
    """Return what to print after the removal, and the exit code.

    What is gone is what is not found again: ERRORS have the reasons only.
    """
    rest = after.lines()
    lines = [
        f"removed {line}"
        for name, line in before.lines().items()
        if name not in rest
    ]
    for name, line in rest.items():
        reason = errors.get(name, "it is there again, or still")
        lines.append(f"FAILED {line}: {reason}")
    code = INCOMPLETE if after.unseen else OK
    lines = lines or ["nothing to remove"]
    return [*after.asides(), *lines], FAILED if rest else code


def _title(network: str) -> str:
    return network if network == names.GATEWAY else f"network {network}"


def _reason(error: Exception) -> str:
    known = isinstance(error, AgentError | PrivilegedError)
    return str(error) if known else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
