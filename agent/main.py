"""`ovn-metadata-agent`: from the command line to a running agent."""

from __future__ import annotations

import fcntl
import functools
import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from oslo_config import cfg
from oslo_log import log
from oslo_privsep.comm import PrivsepTimeout

from ..privsep import context
from ..privsep import settings as privileged
from ..privsep.errors import PrivilegedError
from . import options, privileges
from .errors import AgentError, StartError
from .haproxy.render import Places
from .host import Host
from .options import version
from .proxies import Proxies
from .reconciler import Reconciler
from .service import Service
from .settings import Settings
from .status import Status, StatusServer

LOG = logging.getLogger(__name__)

PROGRAM = "ovn-metadata-agent"


def main() -> int:
    """Run the agent until a signal ends it; return its exit code."""
    try:
        conf, settings = options.load(sys.argv[1:], PROGRAM)
        said = privileges.become_service_user(settings)
        _check_folders(settings)
        privileges.check_readable(settings)
        fleet = privileged.load(settings.privileged_config)
        _set_up_log(conf)
    except (AgentError, PrivilegedError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    LOG.info("%s %s starts", PROGRAM, version())
    for warning in (said, *settings.warnings):
        if warning:
            LOG.warning("%s", warning)
    failure = ""
    try:
        _serve(settings, fleet)
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


def _serve(settings: Settings, fleet: privileged.FleetSettings) -> None:
    places = _places(settings)
    host = Host(state_path=settings.state_path, pids_path=settings.pids_path)
    lock = _claim(places)
    privileges.start_daemon()
    started = host.prepare()
    LOG.info("supervisord %s", "started" if started else "runs already")
    status = Status(version())
    server = StatusServer(settings.status_socket, status)
    proxies = Proxies(host, places, haproxy=fleet.haproxy, fleet_uid=fleet.uid)
    service = Service(
        settings,
        status=status,
        make_reconciler=functools.partial(
            Reconciler,
            settings=settings,
            places=places,
            host=host,
            proxies=proxies,
            status=status,
            ipv6=Path("/proc/sys/net/ipv6").is_dir(),
        ),
        list_programs=host.list_programs,
    )

    _stop_on_signal(service.stop)
    server.start()
    try:
        service.run()
    finally:
        server.stop()
        lock.close()


def _stop_on_signal(stop: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call STOP, in a thread of its own.

    A handler runs between two steps of the main thread, which may hold
    the very lock that STOP needs; so it only writes a byte.
    """
    reader, writer = os.pipe()

    def note(_signal: int, _frame: FrameType | None) -> None:
        os.write(writer, b"x")

    def wait() -> None:
        os.read(reader, 1)
        stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)


def _places(settings: Settings) -> Places:
    folder = settings.state_path / "ovn-metadata-proxy"
    return Places(
        config_folder=folder,
        run_folder=folder / "run",
        socket_folder=folder / "socket",
        pids_folder=settings.pids_path,
    )


def _check_folders(settings: Settings) -> None:
    """Have our folders; raise StartError if they can't be written."""
    places = _places(settings)
    for folder in (
        settings.state_path,
        places.config_folder,
        places.run_folder,
        places.socket_folder,
        places.pids_folder,
    ):
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(_folder_text(folder, str(error))) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StartError(_folder_text(folder, "Permission denied"))


def _claim(places: Places) -> IO[str]:
    """Return the lock that says this host has its agent; hold it open.

    Raises StartError if another agent has it.
    """
    lock = open(places.config_folder / "agent.lock", "a+")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise StartError(
            f"another agent runs here, pid {lock.read().strip() or '?'}; "
            f"stop it first"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _folder_text(folder: Path, reason: str) -> str:
    return (
        f"can't write to {folder} (state_path) as uid {os.geteuid()}: "
        f"{reason}; chown it to the agent's user"
    )


def _set_up_log(conf: cfg.ConfigOpts) -> None:
    try:
        log.setup(conf, PROGRAM)
    except (OSError, log.LogConfigError) as error:
        raise StartError(
            f"can't write the log as {getpass.getuser()}: {error}; check "
            f"log_file and log_dir"
        ) from None
    except RuntimeError as error:
        # oslo.log's, where systemd's Python bindings are missing.
        if not conf.use_journal:
            raise
        conf.set_override("use_journal", override=False)
        conf.set_override("use_stderr", override=True)
        log.setup(conf, PROGRAM)
        LOG.warning(
            "use_journal has no effect, the log goes to stderr: %s; install "
            "python3-systemd",
            error,
        )
