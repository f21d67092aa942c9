"""`ovn-metadata-agent --check`: would the agent start here, and serve?

For packages, deployment tools and operators. This starts, creates and
changes nothing. It queries the databases and connects to Nova.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

from ...privsep import settings as fleet_settings
from ...privsep.errors import PrivilegedError, sentence
from ..config import logs, options
from ..config.options import PROGRAM
from ..config.settings import Settings
from ..errors import AgentError, StartError
from ..ovsdb import connect, southbound, vswitch
from ..startup import folders, user

OPTION = "--check"
GOOD = 0
REFUSED = 1  # the agent would not start
MISSING = 2  # it would start, and wait for something

# For @system-ca (haproxy/render.py).
_OLDEST_HAPROXY = (2, 6)
_TIMEOUT_S = 5


def run(argv: Sequence[str]) -> int:
    """Check the configuration of ARGV, print problems; return exit code."""
    try:
        settings, haproxy = _load(argv)
    except (AgentError, PrivilegedError, OSError) as error:
        print(f"{PROGRAM}: {sentence(error)}", file=sys.stderr)
        return REFUSED
    except SystemExit as ended:  # with 2 for wrong usage: MISSING, here
        return REFUSED if ended.code else GOOD
    for warning in (*settings.warnings, *fleet_settings.warnings()):
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    print(f"{PROGRAM}: the configuration is good")
    code = GOOD
    # As they are found: a server that does not answer takes its time.
    for each in _missing(settings, haproxy):
        print(f"{PROGRAM}: missing: {each}", file=sys.stderr, flush=True)
        code = MISSING
    return code


def _load(argv: Sequence[str]) -> tuple[Settings, str]:
    """Return the settings and the path of haproxy, read as at a start.

    If this is root, it becomes the agent's user. Raises AgentError and
    PrivilegedError with the reason why the agent would not start.
    """
    conf, settings = options.load(argv)
    was_root = os.geteuid() == 0
    if was_root and (account := user.service_user(settings)):
        user.drop_to(account)
    if reason := options.unreadable(argv):
        raise StartError(reason)
    folders.ensure(settings, make=False, roots_are_ours=was_root)
    user.check_readable(settings)
    logs.check(conf, roots_are_ours=was_root)
    vswitch.given_chassis_name(settings.chassis_name)
    file = settings.privileged_config
    haproxy = fleet_settings.load(file).haproxy
    fleet_settings.check_owner(fleet_settings.existing(file))
    return settings, haproxy


def _missing(settings: Settings, haproxy: str) -> Iterator[str]:
    """Yield each missing thing, with the option or package for it."""
    yield from _old_haproxy(haproxy)
    yield from _missing_of_ovn(settings)
    for each in settings.nova.endpoints:
        try:
            address = (each.host, each.port)
            socket.create_connection(address, _TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            yield (
                f"Nova's metadata API at {each.host} port {each.port} "
                f"(nova_metadata_host): {sentence(error)}"
            )


def _old_haproxy(haproxy: str) -> Iterator[str]:
    output = b""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        output = subprocess.run(
            [haproxy, "-v"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        ).stdout
    match = re.search(rb" version (\d+)\.(\d+)", output)
    found = tuple(map(int, match.groups())) if match else ()
    if found < _OLDEST_HAPROXY:
        yield (
            f"haproxy {'.'.join(map(str, _OLDEST_HAPROXY))} or newer; "
            f"{haproxy} is {'.'.join(map(str, found)) or 'something else'}"
        )


def _missing_of_ovn(settings: Settings) -> Iterator[str]:
    connect.use_certificates(settings.southbound)
    remote = settings.vswitch.connection
    try:
        switches, bridges = connect.transact(
            remote,
            vswitch.SCHEMA,
            [
                connect.select("Open_vSwitch", ["external_ids"]),
                connect.select("Bridge", ["name"]),
            ],
        )
    except OSError as error:
        yield (
            f"Open vSwitch at {remote} ([ovs] ovsdb_connection): "
            f"{sentence(error)}; where there is none, install Open vSwitch "
            f"and OVN's ovn-controller (Debian: openvswitch-switch, ovn-host)"
        )
        return
    chassis = vswitch.given_chassis_name(settings.chassis_name)
    ids = switches["rows"][0]["external_ids"] if switches["rows"] else {}
    chassis = chassis or ids.get("system-id", "")
    bridge = vswitch.bridge_name(ids, chassis)
    if {"name": bridge} not in bridges["rows"]:
        yield f"the bridge {bridge}, which ovn-controller creates"
    if not chassis:
        yield vswitch.NO_SYSTEM_ID
        return
    yield from _missing_of_southbound(settings, chassis)


def _missing_of_southbound(settings: Settings, chassis: str) -> Iterator[str]:
    remote = ",".join(settings.southbound.remotes)
    try:
        query = connect.select(
            "Chassis_Private", ["name"], where=["name", "==", chassis]
        )
        (found,) = connect.transact(remote, southbound.SCHEMA, [query])
    except OSError as error:
        yield (
            f"OVN Southbound at {remote} ([ovn] ovn_sb_connection): "
            f"{sentence(error)}"
        )
        return
    if not found["rows"]:
        yield (
            f"the chassis {chassis} in OVN Southbound, which ovn-controller "
            f"registers when it runs"
        )
