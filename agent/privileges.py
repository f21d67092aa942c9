"""Who the agent runs as, and how it gets its privileged daemon.

By a connection to a socket of root's, at which each is served by a daemon of
its own: systemd listens at UNIT_SOCKET; an agent that is started as root, as
in a container, leaves a child behind that listens, and becomes the service
user. Without either, by sudo and rootwrap.
"""

from __future__ import annotations

import ctypes
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

from ..privsep import context, kernel
from ..privsep.errors import PrivilegedError
from . import handover
from .config.settings import Settings
from .errors import StartError

ROOTWRAP_CONFIG = "/etc/ovn-metadata-agent/rootwrap.conf"
SERVICE_USERS = ("ovn-metadata", "neutron")
_HELPER = "privsep-helper"  # oslo.privsep's
_PR_SET_NO_NEW_PRIVS = 38  # <linux/prctl.h>
# Of ovn-metadata-privsep.socket.
UNIT_SOCKET = "/run/ovn-metadata-privsep.sock"


def service_user(settings: Settings) -> pwd.struct_passwd | None:
    """Return the user to drop to; None if there is none.

    Unless it is configured that is the owner of state_path, which others
    of the same user may work in too, or the first of SERVICE_USERS.
    Raises StartError if the configured one does not exist or is root.
    """
    name = settings.service_user
    for candidate in (name,) if name else (*_owner(settings), *SERVICE_USERS):
        try:
            user = pwd.getpwnam(candidate)
        except KeyError:
            continue
        if user.pw_uid == 0:
            raise StartError("service_user is root; name another user")
        return user
    if name:
        raise StartError(
            f"no user {name} (service_user); create it: useradd --system"
        )
    return None


def _owner(settings: Settings) -> list[str]:
    """Return the name of state_path's owner, unless that is root."""
    try:
        uid = settings.state_path.stat().st_uid
        return [pwd.getpwuid(uid).pw_name] if uid else []
    except (OSError, KeyError):
        return []


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
    user = service_user(settings)
    if user is None:
        _start_acceptor(settings, pwd.getpwuid(0))
        return (
            f"running as root: no user {' or '.join(SERVICE_USERS)} here; "
            f"create one (useradd --system) or set service_user"
        )
    if hand_over:
        handover.hand_over_state_path(settings.state_path, user, make=make)
    if log is not None:
        handover.hand_over_log(log, user)
    _start_acceptor(settings, user)
    drop_to(user)
    return f"was root, runs as {user.pw_name} from here on"


def check_readable(settings: Settings) -> None:
    """Raise StartError unless we, as who we are now, can read all files.

    Those were looked at before, maybe as root.
    """
    for path in settings.files_in_use():
        if not os.access(path, os.R_OK):
            raise StartError(
                f"{path} can't be read as {_own_name()}; let that user read "
                f"it, and pass through its folders"
            )


def _own_name() -> str:
    """Return the name of who we are; a container may know none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


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
        f"allow {_own_name()} to run it (sudoers.d/ovn-metadata-agent) and "
        f"try by hand: {cfg.CONF.privsep.helper_command}"
    )


def _start_acceptor(settings: Settings, user: pwd.struct_passwd) -> None:
    """Have a child of ours start a daemon whenever we, as USER, connect.

    It lives as long as the pipe that we keep open to its stdin, so it
    needs no stopping; a child of ours must not get that end.
    """
    name = f"ovn-metadata-privsep-{os.getpid()}-{secrets.token_hex(8)}"
    python = (sys.executable, "-I", "-m")
    served = (*python, "ovn_metadata.privsep.daemon", user.pw_name)
    acceptor = (*python, "ovn_metadata.privsep.acceptor", name)
    file = settings.privileged_config
    reader, _writer = os.pipe()
    process = subprocess.Popen(
        (*acceptor, str(user.pw_uid), *served, *_existing(file)),
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


def drop_to(user: pwd.struct_passwd) -> None:
    """Become USER for good, without any capability or way to get one."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ["HOME"] = user.pw_dir
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise StartError(f"prctl: {os.strerror(ctypes.get_errno())}")
