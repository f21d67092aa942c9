"""`ovn-metadata-cleanup`: remove all of the agent's from this host."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from oslo_privsep.comm import PrivsepTimeout

from ...privsep import context, decommission, network
from ...privsep import settings as privileged
from ...privsep.errors import PrivilegedError
from .. import folders, privileges, unixsocket
from ..config import options
from ..config.settings import Settings
from ..errors import AgentError, StartError
from . import findings, inventory
from .databases import CleanupDatabases
from .findings import Found, Item
from .inventory import Inventory

PROGRAM = "ovn-metadata-cleanup"
USAGE = 64  # EX_USAGE, <sysexits.h>
_EPILOG = """\
All other options are the agent's: give it the same configuration files.

exit code: 0 nothing of ours is left (--dry-run: all was looked at); 1 a thing
could not be removed, or the agent runs; 2 all is gone where it could look, but
a database does not answer; 64 wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Remove everything, or say what would be; return the exit code."""
    dry, rest = _parse(sys.argv[1:] if argv is None else argv)
    # What libraries warn of is among what is told as the result.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        lines, code = _run(_settings(rest), dry=dry)
    except (AgentError, PrivilegedError, PrivsepTimeout, OSError) as error:
        print(f"{PROGRAM}: {_reason(error)}", file=sys.stderr)
        return findings.FAILED
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
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list it and change nothing"
    )
    arguments, rest = parser.parse_known_args(argv)
    return arguments.dry_run, rest


def _settings(argv: list[str]) -> Settings:
    """Return what the agent would be told by ARGV."""
    try:
        return options.load(argv, "ovn-metadata-agent")[1]
    except SystemExit as end:
        # oslo.config's parser ends with a 2, which is one of ours.
        raise SystemExit(USAGE if end.code == 2 else end.code) from None


def _run(settings: Settings, *, dry: bool) -> tuple[list[str], int]:
    """Do it, or say what would be done; return the words and the code."""
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
        privileges.become_service_user(settings, make=False, hand_over=not dry)
        privileges.start_daemon()
        databases = CleanupDatabases(settings)
        found = _look(settings, fleet.uid, databases)
        if dry:
            return findings.tell_plan(found)
        after = found
        errors: dict[Item, str] = {}
        # Twice: a supervisord that is about to start its programs makes
        # some of it again while the rest is removed.
        for _ in range(2):
            errors = _remove(settings, after.items, databases)
            after = _look(settings, fleet.uid, databases)
            if not after.items:
                break
        return findings.tell_result(found, after, errors)


def _look(
    settings: Settings, fleet_uid: int, databases: CleanupDatabases
) -> Found:
    """Return all that is here now."""
    here = Inventory(settings, fleet_uid)
    registered = databases.registration()
    marked = {port.network for port in databases.snapshot.ports.values()}
    networks = here.networks() | (marked - {""})
    ports, open_ports = findings.sort_ports(
        databases.snapshot.ports,
        networks=networks,
        localports=registered.networks,
    )
    networks |= {port.network for port in ports}
    programs, kept_programs = here.fleet()
    files, kept_files = here.files(networks)
    keys = [
        Item("registration", f"{key} in Chassis_Private")
        for key in registered.keys
    ]
    left = [*kept_programs, *open_ports, *kept_files]
    if registered.bridge:
        left.append(
            "neutron:ovn-bridge in Chassis_Private: Neutron plugs instances "
            "by it; it goes with the chassis"
        )
    items = [*programs, *ports, *here.kernel(networks), *files, *keys]
    return Found(tuple(items), tuple(left), tuple(databases.unseen))


def _remove(
    settings: Settings, items: Iterable[Item], databases: CleanupDatabases
) -> dict[Item, str]:
    """Remove ITEMS; return why one could not be.

    In the agent's order: who answers, the way there, then what is left.
    """
    by_kind: dict[str, list[Item]] = {}
    for item in items:
        by_kind.setdefault(item.kind, []).append(item)
    errors: dict[Item, str] = {}

    def attempt(what: list[Item], act: Callable[[], object]) -> None:
        try:
            if what:
                act()
        # Whatever it was, the rest goes on; and it is told.
        except Exception as error:  # noqa: BLE001
            # With its path an OSError would name the thing twice.
            reason = getattr(error, "strerror", None) or _reason(error)
            errors.update(dict.fromkeys(what, reason))

    def of(*kinds: str) -> list[Item]:
        return [item for kind in kinds for item in by_kind.get(kind, ())]

    attempt(
        of(*inventory.FLEET_KINDS),
        lambda: decommission.shut_down(str(settings.state_path)),
    )
    ports = of("OVS port")
    attempt(ports, lambda: databases.remove_ports([p.name for p in ports]))
    kernel = of("namespace", "veth")
    for each in sorted({item.network for item in kernel}):
        attempt(
            [item for item in kernel if item.network == each],
            lambda each=each: network.remove(each),  # type: ignore[misc]
        )
    for item in of("file"):
        attempt([item], Path(item.name).unlink)
    for item in of("folder"):
        attempt([item], Path(item.name).rmdir)
    attempt(of("registration"), databases.remove_registration)
    return errors


def _reason(error: Exception) -> str:
    known = isinstance(error, AgentError | PrivilegedError)
    return str(error) if known else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
