"""The steps from the command line to a process with the agent's user."""

import contextlib
import logging
from typing import IO

from ...privsep import settings as fleet_settings
from ...privsep.settings import FleetSettings
from ..config import logs, options
from ..config.options import PROGRAM, version
from ..config.reload import Configuration
from . import daemon, folders, user

LOG = logging.getLogger(__name__)

_SHARED_USER = (
    "the haproxies run as {user}; other programs of that user can change "
    "them; create ovn-metadata-fleet (useradd --system) or set [fleet] "
    "user in privileged.conf"
)
_ONE_USER = (
    "the haproxies of all networks run as {user}: an attacker in one of them "
    "can reach the others; set [fleet] network_ids in privileged.conf to ids "
    "that this host has"
)


def begin(
    argv: list[str],
) -> tuple[Configuration, FleetSettings, IO[str] | None]:
    """Read the configuration, become the service user, log warnings.

    Returns the agent's lock too, or None if its file is not there or not
    ours: the daemon makes it so. The lock comes first, since a second agent
    must change nothing. Raises AgentError and PrivilegedError if the agent
    must not start.
    """
    configuration = Configuration(argv)
    conf, settings = configuration.conf, configuration.settings()
    # Whether haproxy can be run is checked below, as the agent's user.
    fleet = fleet_settings.load(settings.privileged_config, runnable=False)
    lock = None
    with contextlib.suppress(FileNotFoundError, PermissionError):
        lock = folders.claim(fleet.places.agent_lock)
    warning = daemon.become_service_user(settings, log=logs.file_of(conf))
    folders.ensure(settings)
    user.check_readable(settings)
    fleet = fleet_settings.load(settings.privileged_config)
    logs.set_up(conf, settings.southbound.log_level)
    LOG.info("%s %s starts", PROGRAM, version())
    warnings = [warning] if warning else []
    warnings += settings.warnings
    if warning and (unreadable := options.unreadable(argv)):
        warnings.append(f"a reload would be refused: {unreadable}")
    if fleet.is_fallback:
        warnings.append(_SHARED_USER.format(user=fleet.user))
    if not fleet.network_ids:
        warnings.append(_ONE_USER.format(user=fleet.user))
    for each in warnings:
        LOG.warning("%s", each)
    return configuration, fleet, lock
