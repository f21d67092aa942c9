"""From a command line to a process that may be the agent."""

from __future__ import annotations

import logging
from typing import IO

from ...privsep import settings as privileged
from ...privsep.settings import FleetSettings
from ..config import logs, options
from ..config.options import version
from ..config.reload import Configuration
from . import daemon, folders, user

LOG = logging.getLogger(__name__)

_SHARED_USER = (
    "the haproxies run as {user}, which others may run as too and meddle "
    "with them; create ovn-metadata-fleet (useradd --system) or set [fleet] "
    "user in privileged.conf"
)
_ONE_USER = (
    "the haproxies of all networks run as {user}: whoever breaks into one "
    "can get at the others; give [fleet] network_ids in privileged.conf ids "
    "that this host has"
)


def begin(
    argv: list[str], program: str
) -> tuple[Configuration, FleetSettings, IO[str] | None]:
    """Read the configuration, become the service user, log what is odd.

    Returns the host's lock too, where `folders.claim` could take it: first of
    all, since a second agent must change nothing. Raises AgentError and
    PrivilegedError for what must not be.
    """
    conf, settings = options.load(argv, program)
    lock = folders.claim_early(settings)
    warning = daemon.become_service_user(
        settings, log=logs.file_of(conf, program)
    )
    folders.ensure(settings)
    user.check_readable(settings)
    fleet = privileged.load(settings.privileged_config)
    logs.set_up(conf, program, ovsdb_level=settings.southbound.log_level)
    LOG.info("%s %s starts", program, version())
    warnings = [warning] if warning else []
    warnings += settings.warnings
    if warning and (unreadable := options.unreadable(argv, program)):
        warnings.append(f"a reload would be refused: {unreadable}")
    if fleet.is_fallback:
        warnings.append(_SHARED_USER.format(user=fleet.user))
    if not fleet.network_ids:
        warnings.append(_ONE_USER.format(user=fleet.user))
    for each in warnings:
        LOG.warning("%s", each)
    configuration = Configuration(argv, program, conf=conf, settings=settings)
    return configuration, fleet, lock
