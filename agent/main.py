"""`ovn-metadata-agent`: from the command line to a running agent."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

from oslo_privsep.comm import PrivsepTimeout

from ..privsep import context
from ..privsep import settings as privileged
from ..privsep.errors import PrivilegedError
from . import folders, logs, preflight, privileges
from .config import options
from .config.options import version
from .config.reload import Configuration
from .errors import AgentError
from .gateway import Gateway
from .host import Host
from .monitor.status import Status
from .monitor.status_socket import StatusServer
from .monitor.watch import Watch
from .nova_hosts import NovaHosts
from .proxies import Proxies
from .reconciler import Reconciler
from .service import Service
from .signals import Signals

LOG = logging.getLogger(__name__)

PROGRAM = "ovn-metadata-agent"
_END_S = 4.0


def main() -> int:
    """Run the agent until a signal ends it; return its exit code."""
    signals = Signals()
    argv = sys.argv[1:]
    if preflight.OPTION in argv:
        argv.remove(preflight.OPTION)
        return preflight.run(argv, PROGRAM)
    try:
        conf, settings = options.load(argv, PROGRAM)
        said = privileges.become_service_user(
            settings, log=logs.file_of(conf, PROGRAM)
        )
        folders.ensure(settings)
        privileges.check_readable(settings)
        fleet = privileged.load(settings.privileged_config)
        logs.set_up(conf, PROGRAM, ovsdb_level=settings.southbound.log_level)
    except (AgentError, PrivilegedError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    LOG.info("%s %s starts", PROGRAM, version())
    warnings = [*filter(None, [said]), *settings.warnings]
    if said and (unreadable := options.unreadable(argv, PROGRAM)):
        warnings.append(f"a reload would be refused: {unreadable}")
    if fleet.is_fallback:
        warnings.append(
            f"the haproxies run as {fleet.user}, which others may run as too "
            f"and meddle with them; create ovn-metadata-fleet (useradd "
            f"--system) or set [fleet] user in privileged.conf"
        )
    if not fleet.network_ids:
        warnings.append(
            f"the haproxies of all networks run as {fleet.user}: whoever "
            f"breaks into one can get at the others; give [fleet] "
            f"network_ids in privileged.conf ids that this host has"
        )
    for warning in warnings:
        LOG.warning("%s", warning)
    configuration = Configuration(argv, PROGRAM, conf=conf, settings=settings)
    failure = ""
    try:
        _serve(configuration, fleet, signals)
    except (AgentError, PrivilegedError) as error:
        failure = str(error)
    except (OSError, PrivsepTimeout) as error:
        failure = f"{type(error).__name__}: {error}"
    finally:
        context.stop_daemon()
    if failure:
        LOG.critical("%s", failure)
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return 1
    LOG.info("%s ends; the networks are served on", PROGRAM)
    return 0


def _serve(
    configuration: Configuration,
    fleet: privileged.FleetSettings,
    signals: Signals,
) -> None:
    settings = configuration.settings()
    places = folders.places(settings)
    host = Host(state_path=settings.state_path, users=fleet.users)
    privileges.start_daemon()
    started = host.prepare()
    lock = folders.claim(fleet.agent_lock)
    LOG.info("supervisord %s", "started" if started else "runs already")
    status = Status(version())
    server = StatusServer(settings.status_socket, status)
    nova_hosts = NovaHosts(
        lambda: configuration.settings().nova,
        interval_s=lambda: configuration.settings().resolve_interval_s,
    )
    proxies = Proxies(host, places, fleet=fleet)
    service = Service(
        configuration.settings,
        status=status,
        nova_hosts=nova_hosts,
        make_reconciler=functools.partial(
            Reconciler,
            settings=configuration.settings,
            places=places,
            host=host,
            proxies=proxies,
            status=status,
            gateway=Gateway(
                settings=configuration.settings,
                places=places,
                host=host,
                proxies=proxies,
                status=status,
                nova_hosts=nova_hosts,
            ),
            gateway_socket=fleet.gateway_socket,
            ipv6=Path("/proc/sys/net/ipv6").is_dir(),
        ),
        list_programs=host.list_programs,
    )

    def reload() -> None:
        _reload(configuration, status)
        service.reconfigured()

    def stop() -> None:
        service.stop()
        if not service.has_ended(_END_S):
            context.stop_daemon()  # a call of it hangs

    signals.start(stop=stop, reload=reload)
    server.start()
    watch = Watch(status, read=proxies.counted, read_nova=proxies.nova_counted)
    watch.start()
    try:
        service.run()
    finally:
        watch.stop()
        server.stop()
        lock.close()


def _reload(configuration: Configuration, status: Status) -> None:
    """Read the configuration again; what can't be used changes nothing."""
    problem = ""
    try:
        waiting = configuration.reload()
    except AgentError as error:
        problem = f"configuration not reloaded, the old one stays: {error}"
    if problem:
        LOG.error("%s", problem)
    else:
        LOG.info("configuration reloaded")
        for warning in configuration.settings().warnings:
            LOG.warning("%s", warning)
        if waiting:
            names = ", ".join(waiting)
            problem = f"in force after a restart only: {names}"
            LOG.warning("%s", problem)
    status.trouble("configuration", problem)
