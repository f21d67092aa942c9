"""`ovn-metadata-agent`: from the command line to a running agent."""

import faulthandler
import logging
import os
import sys
import threading
from pathlib import Path
from typing import IO

from ..privsep import context
from ..privsep.errors import PrivilegedError, sentence
from ..privsep.settings import FleetSettings
from .commands import check
from .config.options import PROGRAM, version
from .config.reload import Configuration
from .errors import AgentError
from .haproxy.places import Places
from .monitor.notify import Heart, Manager
from .monitor.status import Status
from .monitor.status_socket import StatusServer
from .reconcile.haproxies import Haproxies
from .reconcile.privileged import Privileged
from .reconcile.site import Site
from .service import Service
from .startup import daemon, folders
from .startup.begin import begin
from .startup.signals import Signals
from .threads import end_with

LOG = logging.getLogger(__name__)

# How long the agent may take to end before its daemon is stopped.
_END_S = 4.0


def main() -> int:
    """Run the agent until a signal stops it; return its exit code."""
    signals = Signals()
    # What hangs is in the log when the watchdog's SIGABRT ends the agent.
    faulthandler.enable(file=2)  # sys.stderr is None if that is closed
    argv = sys.argv[1:]
    if check.OPTION in argv:
        argv.remove(check.OPTION)
        return check.run(argv)
    try:
        configuration, fleet, lock = begin(argv)
    except (AgentError, PrivilegedError, OSError) as error:
        print(f"{PROGRAM}: {sentence(error)}", file=sys.stderr)
        return 1
    try:
        _serve(configuration, fleet, signals, lock)
    except (AgentError, PrivilegedError, OSError) as error:
        failure = sentence(error)
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        failure = f"{error}; raise TasksMax of its unit"
    else:
        LOG.info("%s ends; the networks are still served", PROGRAM)
        return 0
    finally:
        context.stop_daemon()
    LOG.critical("%s", failure)
    print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return 1


def _serve(
    configuration: Configuration,
    fleet: FleetSettings,
    signals: Signals,
    lock: IO[str] | None,
) -> None:
    settings = configuration.settings()
    status = Status(version())
    manager = Manager(os.environ)
    Heart(manager, status).start()
    privileged = Privileged(state_path=settings.state_path, users=fleet.users)
    daemon.start_daemon()
    if lock is None:
        privileged.make_agent_lock()
        lock = folders.claim(fleet.places.agent_lock)
    LOG.info("supervisord has %d haproxies", len(privileged.list_programs()))
    server = StatusServer(settings.status_socket, status)
    places = Places(fleet.run_dir, settings.state_path, settings.pids_path)
    haproxies = Haproxies(privileged, places, fleet=fleet)
    has_ipv6 = Path("/proc/sys/net/ipv6").is_dir()
    if not has_ipv6:
        LOG.warning(
            "no IPv6 in this kernel: metadata is served over IPv4 only"
        )
    site = Site(
        configuration.settings, privileged, haproxies, status, has_ipv6
    )
    service = Service(site)
    server.handlers["asks"] = service.asks
    server.handlers["why"] = service.why
    end_with(service.fail)
    _follow_signals(signals, service, configuration, status, manager)
    server.start("status")
    try:
        service.run()
    finally:
        server.stop()
        lock.close()


def _follow_signals(
    signals: Signals,
    service: Service,
    configuration: Configuration,
    status: Status,
    manager: Manager,
) -> None:
    def reload() -> None:
        _reload(configuration, status)
        service.reconfigured()

    def stop() -> None:
        manager.send("STOPPING=1")
        service.stop()
        threading.main_thread().join(_END_S)
        if threading.main_thread().is_alive():
            context.stop_daemon()  # a call to it hangs

    def log_report() -> None:
        from .startup import report  # noqa: PLC0415 # it loads for 0.2 s

        report.log(configuration.conf, status.as_dict())

    signals.start(stop=stop, reload=reload, report=log_report)


def _reload(configuration: Configuration, status: Status) -> None:
    """Read the configuration again; if it can't be used, keep the old one."""
    problem = ""
    try:
        waiting = configuration.reload()
    except Exception as error:  # noqa: BLE001 # the next reload must work
        what = "configuration not reloaded, the old one stays"
        problem = f"{what}: {sentence(error)}"
        LOG.error("%s", problem)
    else:
        LOG.info("configuration reloaded")
        warnings = [*configuration.settings().warnings]
        if waiting:
            problem = f"these options need a restart: {', '.join(waiting)}"
            warnings.append(problem)
        for warning in warnings:
            LOG.warning("%s", warning)
    status.note("OVNMD-406", problem)
