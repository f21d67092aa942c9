"""`ovn-metadata-cleanup`: remove everything of the agent from this host.

It removes each network as the agent does when no instance needs it any more.
"""

import argparse
import contextlib
import functools
import logging
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...privsep import context
from ...privsep import settings as fleet_settings
from ...privsep.errors import PrivilegedError, sentence
from .. import unixsocket
from ..config import options
from ..config.settings import Settings
from ..errors import AgentError, StartError
from ..haproxy.places import Places
from ..metrics import COUNTERS
from ..model import VswitchSnapshot
from ..ovsdb import connect, southbound, vswitch
from ..ovsdb.heartbeat import HEARTBEAT_KEY, ID_KEY
from ..reconcile.haproxies import Haproxies
from ..reconcile.privileged import Privileged
from ..reconcile.traces import Traces
from ..startup import daemon, folders
from . import cleanup_report as report
from .cleanup_report import Found
from .client import USAGE, Parser

PROGRAM = "ovn-metadata-cleanup"
_TIMEOUT_S = 10
# A process that ends or starts meanwhile is found in a later round. A haproxy
# that hangs is killed ten seconds after it was told to end.
_ROUNDS = 25
_PAUSE_S = 0.5
# Of the registration. Without BRIDGE_KEY: Neutron's server plugs instances by
# it, with or without an agent, and it goes with the chassis.
_KEYS = (ID_KEY, HEARTBEAT_KEY)
_EPILOG = """\
All other options are the agent's: give it the same configuration files.

exit code: 0 nothing of the agent is left (--dry-run: everything was looked
at); 1 a thing could not be removed, or the agent runs; 2 everything that was
found is removed, but a database does not answer; 64 wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Remove everything, or list what would be; return the exit code."""
    dry, rest = _parse(sys.argv[1:] if argv is None else argv)
    # The result reports the errors; keep the libraries' warnings off stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        lines, code = _run(_settings(rest), dry=dry)
    except (AgentError, PrivilegedError, OSError) as error:
        print(f"{PROGRAM}: {sentence(error)}", file=sys.stderr)
        return report.FAILED
    finally:
        context.stop_daemon()
    if argv is None:  # a reader of its output that leaves, `head`, ends it
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print("\n".join(lines))
    return code


def _parse(argv: list[str]) -> tuple[bool, list[str]]:
    """Return whether this is a dry run, and the agent's options."""
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [--dry-run] [--config-file FILE] ...",
        allow_abbrev=False,
        description="Remove everything of the agent from this host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list it and change nothing"
    )
    arguments, rest = parser.parse_known_args(argv)
    return arguments.dry_run, rest


def _settings(argv: list[str]) -> Settings:
    try:
        return options.load(argv)[1]
    except SystemExit as end:
        # oslo.config exits with 2, which means something else here.
        raise SystemExit(USAGE if end.code == 2 else end.code) from None


def _run(settings: Settings, *, dry: bool) -> tuple[list[str], int]:
    """Remove or list everything; return what to print and the exit code."""
    # haproxy may be uninstalled already.
    fleet = fleet_settings.load(settings.privileged_config, runnable=False)
    with contextlib.ExitStack() as stack:
        # Before this process changes its user: the lock may be another
        # user's.
        with contextlib.suppress(FileNotFoundError):
            stack.enter_context(folders.claim(fleet.places.agent_lock))
        # Before any file changes its owner: a refused run changes nothing.
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
            return report.plan(before)
        after, errors = cleanup.remove_all(before)
        return report.result(before, after, errors)


class Cleanup:
    """Finds what is the agent's on this host, and removes it."""

    def __init__(
        self, settings: Settings, fleet: fleet_settings.FleetSettings
    ) -> None:
        self._settings = settings
        self._places = Places(
            fleet.run_dir, settings.state_path, settings.pids_path
        )
        self._privileged = Privileged(
            state_path=settings.state_path, users=fleet.users
        )
        self._southbound = ",".join(settings.southbound.remotes)
        self._unseen: list[str] = []
        self._snapshot = VswitchSnapshot()
        self._traces = Traces(
            Haproxies(self._privileged, self._places, fleet=fleet),
            self._connect_vswitch(),
            lambda: self._snapshot,
        )

    def _connect_vswitch(self) -> vswitch.Vswitch | None:
        """Return the local database; None if it does not answer."""
        remote = self._settings.vswitch.connection
        connect.use_certificates(self._settings.southbound)
        given = vswitch.given_chassis_name(self._settings.chassis_name)
        try:
            idl = vswitch.VswitchIdl(
                remote, chassis_name=given, on_snapshot=self._note
            )
            return vswitch.Vswitch(connect.start(idl, _TIMEOUT_S))
        # ovsdbapp raises a bare Exception when no server answers.
        except Exception as error:  # noqa: BLE001
            self._unseen += [
                f"Open vSwitch at {remote}: {sentence(error)}",
                "the registration in OVN Southbound: system-id is not known",
            ]
            return None

    def _note(self, snapshot: VswitchSnapshot) -> None:
        self._snapshot = snapshot

    def look(self) -> Found:
        """Return what there is now; change nothing."""
        fleet = self._privileged.look()
        networks = self._traces.find(
            {
                "program": fleet["programs"],
                "haproxy": fleet["haproxies"],
            }
        )
        left = []
        others: dict[str, Callable[[], object]] = {}
        if fleet["is_service"]:
            left.append("supervisord: ovn-metadata-fleet runs it; stop that")
        elif fleet["folder"]:
            others[f"fleet in {fleet['folder']}"] = self._privileged.shut_down
        others |= self._shared_files()
        registered = self._registered()
        for key in _KEYS:
            if key in registered:
                name = f"registration {key} in Chassis_Private"
                others[name] = self._unregister
        is_up = bool(fleet["supervisord"] or fleet["haproxies"])
        return Found(networks, others, left, [*self._unseen], is_up)

    def _shared_files(self) -> dict[str, Callable[[], object]]:
        """Return the files of no network."""
        places, settings = self._places, self._settings
        public = settings.proxy_socket
        tmp = public.with_name(f".{public.name}.tmp")
        paths = (public, tmp, settings.status_socket, settings.metrics_socket)
        found: dict[str, Callable[[], object]] = {
            f"file {path}": path.unlink
            for path in filter(None, paths)
            # Neutron's agent makes a socket where ours is a link.
            if places.is_link_of_ours(path)
            or (path.is_socket() and not path.is_symlink())
        }
        counters = settings.state_path / COUNTERS
        if counters.is_file():
            found[f"file {counters}"] = counters.unlink
        return found

    def _registered(self) -> set[str]:
        """Return the keys in the chassis' row; none without a database."""
        if self._unseen:
            return set()
        try:
            if not self._snapshot.system_id:
                raise ConnectionError("no system-id in Open_vSwitch")
            query = connect.select("Chassis_Private", ["external_ids"])
            rows = self._transact(query)["rows"]
        except OSError as error:
            self._unseen.append(
                f"OVN Southbound at {self._southbound}: {sentence(error)}"
            )
            return set()
        return {key for row in rows for key in row["external_ids"]}

    def _unregister(self) -> None:
        ours = ["external_ids", "delete", ["set", [*_KEYS]]]
        self._transact(
            {"op": "mutate", "table": "Chassis_Private", "mutations": [ours]}
        )

    def _transact(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Return the result of OPERATION on the chassis' row alone."""
        where = [["name", "==", self._snapshot.system_id]]
        (found,) = connect.transact(
            self._southbound, southbound.SCHEMA, [operation | {"where": where}]
        )
        return dict(found)

    def remove_all(self, found: Found) -> tuple[Found, dict[str, str]]:
        """Remove what is FOUND, and look again, until nothing is left.

        Returns what is left after the last round, and why.
        """
        errors: dict[str, str] = {}
        for _ in range(_ROUNDS):
            if not found.lines():
                break
            errors = self._remove(found)
            found = self.look()
            if found.lines():
                time.sleep(_PAUSE_S)  # no event reports that a process ended
        return found, errors

    def _remove(self, found: Found) -> dict[str, str]:
        """Remove what is FOUND; return the reason of each failure by name."""
        errors: dict[str, str] = {}

        def attempt(name: str, act: Callable[[], object]) -> None:
            try:
                act()
            # Whatever it is: the report has it, and the rest is removed.
            except Exception as error:  # noqa: BLE001
                errors[name] = sentence(error)

        with ThreadPoolExecutor(self._settings.reconcile_workers) as pool:
            for network in found.networks:
                remove = functools.partial(
                    self._traces.remove, network, program=found.is_fleet_up
                )
                pool.submit(attempt, report.title(network), remove)
        if any("haproxy" in kinds for kinds in found.networks.values()):
            # supervisord ends the haproxies that it did not start; the next
            # round sees that. A supervisord that is started for it starts
            # no haproxy: no program is left.
            attempt("supervisord", self._privileged.list_programs)
            attempt("supervisord", self._privileged.sweep)
        for name, act in found.others.items():
            attempt(name, act)
        return errors
