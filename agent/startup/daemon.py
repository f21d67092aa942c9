"""How the agent gets its privileged daemon.

By a connection to a socket of root's, at which each is served by a daemon of
its own: systemd listens at UNIT_SOCKET; an agent that is started as root, as
in a container, leaves a child behind that listens, and becomes the service
user. Without either, by sudo and rootwrap.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from oslo_config import cfg
from oslo_privsep import daemon

from ...privsep import context, kernel
from ...privsep.errors import PrivilegedError
from ..config.settings import Settings
from ..errors import StartError
from . import ownership, user

ROOTWRAP_CONFIG = "/etc/ovn-metadata-agent/rootwrap.conf"
_HELPER = "privsep-helper"  # oslo.privsep's
# Of ovn-metadata-privsep.socket.
UNIT_SOCKET = "/run/ovn-metadata-privsep.sock"


def become_service_user(
    settings: Settings,
    *,
    log: Path | None = None,
    make: bool = True,
    hand_over: bool = True,
) -> str:
    """If we are root: leave the acceptor behind and become the service user.

    With HAND_OVER, what an agent that ran as root left in state_path, and
    the file LOG, are that user's then, and state_path is made if MAKE says
    so; without it nothing on this host changes. Returns what the
    log should say about it, "" if we were not root. Raises StartError.
    Before any thread is started.
    """
    # oslo.privsep has its options from there.
    cfg.CONF([], project="ovn-metadata-agent", default_config_files=[])
    if os.geteuid() != 0:
        _find_way_to_root(settings)
        return ""
    # Root by sudo is root: the daemon does not work for sudo's caller.
    os.environ.pop("SUDO_UID", None)
    account = user.service_user(settings)
    if account is None:
        _start_acceptor(settings, pwd.getpwuid(0))
        return (
            f"running as root: no user {' or '.join(user.SERVICE_USERS)} "
            f"here; create one (useradd --system) or set service_user"
        )
    if hand_over:
        ownership.hand_over_state_path(settings.state_path, account, make=make)
    if log is not None:
        ownership.hand_over_log(log, account)
    _start_acceptor(settings, account)
    user.drop_to(account)
    return f"was root, runs as {account.pw_name} from here on"


def start_daemon() -> None:
    """Start the privileged daemon now; raise StartError if it won't."""
    # The sudoers line pins where our socket for the daemon may be.
    tempfile.tempdir = "/tmp"  # noqa: S108 # mkdtemp makes a folder in it
    try:
        context.ensure_daemon()
    except (daemon.FailedToDropPrivileges, OSError, PrivilegedError) as error:
        raise StartError(
            f"the privileged daemon did not start: {error}; {_remedy()}"
        ) from None


def _remedy() -> str:
    """Return what an operator can do about a daemon that does not start."""
    address = context.default.address
    if address == UNIT_SOCKET:
        return (
            f"is {UNIT_SOCKET} the socket of ovn-metadata-privsep.socket? See "
            f"journalctl -u 'ovn-metadata-privsep@*'"
        )
    if address:
        return "the reason is on this agent's stderr"
    return (
        f"allow {user.own_name()} to run it (sudoers.d/ovn-metadata-agent) "
        f"and try by hand: {cfg.CONF.privsep.helper_command}"
    )


def _start_acceptor(settings: Settings, account: pwd.struct_passwd) -> None:
    """Have a child of ours start a daemon whenever we, as ACCOUNT, connect.

    It lives as long as the pipe that we keep open to its stdin, so it
    needs no stopping; a child of ours must not get that end.
    """
    name = f"ovn-metadata-privsep-{os.getpid()}-{secrets.token_hex(8)}"
    python = (sys.executable, "-I", "-m")
    served = (*python, "ovn_metadata.privsep.daemon", account.pw_name)
    acceptor = (*python, "ovn_metadata.privsep.acceptor", name)
    file = settings.privileged_config
    reader, _writer = os.pipe()
    process = subprocess.Popen(
        (*acceptor, str(account.pw_uid), *served, *_existing(file)),
        stdin=reader,
        stdout=subprocess.PIPE,
        env={"PATH": os.defpath},
        cwd="/",
    )
    os.close(reader)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise StartError("the privileged acceptor did not start")
    process.stdout.close()
    context.default.address = f"\0{name}"


def _find_way_to_root(settings: Settings) -> None:
    """Choose the unit's socket, or sudo; raise StartError if it can't do."""
    if os.path.lexists(UNIT_SOCKET):
        _check_there(settings.privileged_config, "the daemon's unit")
        context.default.address = UNIT_SOCKET
        return
    command = _sudo_command(settings)
    if command[0] == "sudo" and kernel.has_no_new_privileges():
        raise StartError(
            f"sudo can't be used here (no_new_privs), and there is no "
            f"{UNIT_SOCKET}; start ovn-metadata-privsep.socket"
        )
    cfg.CONF.set_override(
        "helper_command", shlex.join(command), group="privsep"
    )


def _sudo_command(settings: Settings) -> list[str]:
    """Return the command that starts the daemon for an unprivileged us.

    The operator's own, unless that is by Neutron's rootwrap: the file is
    Neutron's as it was, our own rule is tighter, and Neutron may be gone.
    """
    command = shlex.split(settings.helper_command or "")
    if not command and settings.root_helper:
        command = [*shlex.split(settings.root_helper), _HELPER]
    is_neutrons = any(Path(w).name == "neutron-rootwrap" for w in command)
    if not command or (is_neutrons and Path(ROOTWRAP_CONFIG).exists()):
        _check_there(settings.privileged_config, "the sudo rule")
        rootwrap = _program("ovn-metadata-rootwrap")
        command = ["sudo", rootwrap, ROOTWRAP_CONFIG, _HELPER]
    if command[0] == "sudo" and "-n" not in command:
        command.insert(1, "-n")  # never ask: there is nobody to answer
    if Path(command[-1]).name == _HELPER:
        for file in _existing(settings.privileged_config):
            command += ["--config-file", file]
    return command


def _program(name: str) -> str:
    """Return the path of a program that was installed along with us."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _existing(path: Path) -> list[str]:
    # Where its folder is closed to us Path.exists would raise.
    return [str(path)] if os.path.exists(path) else []  # noqa: PTH110


def _check_there(path: Path, whose: str) -> None:
    if not _existing(path):
        raise StartError(
            f"{path} is missing; install it (it may be empty): {whose} "
            f"names it"
        )
