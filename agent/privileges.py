"""Who the agent runs as, and how it gets its privileged daemon.

Four ways in: as the service user by systemd's socket where its unit is, else
by sudo and rootwrap; as root in a container, whereupon we drop to the service
user and a small launcher stays root; as root without such a user, which is
said and lived with.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pwd
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from oslo_config import cfg
from oslo_privsep import daemon

from ..privsep import context, kernel, launcher
from ..privsep.errors import PrivilegedError
from . import handover
from .config.settings import Settings
from .errors import StartError

LOG = logging.getLogger(__name__)

ROOTWRAP_CONFIG = "/etc/ovn-metadata-agent/rootwrap.conf"
SERVICE_USERS = ("ovn-metadata", "neutron")
_PR_SET_NO_NEW_PRIVS = 38  # <linux/prctl.h>
_UNIT_JOURNAL = "journalctl -u 'ovn-metadata-privsep@*'"


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
    """If we are root: leave a launcher behind and become the service user.

    With HAND_OVER, what an agent that ran as root left in state_path, and
    the file LOG, are that user's then, and state_path is made if MAKE says
    so; without it nothing on this host changes. Returns what the
    log should say about it, "" if we were not root. Raises StartError.
    Before any thread is started.
    """
    if os.geteuid() != 0:
        _use_helper(_unit_command(settings) or _sudo_command(settings))
        return ""
    # Root through sudo is root; the daemon would work for who called it.
    os.environ.pop("SUDO_UID", None)
    helper = settings.helper_command
    user = service_user(settings)
    if user is None:
        _use_helper(shlex.split(helper) if helper else _direct(settings))
        return (
            f"running as root: no user {' or '.join(SERVICE_USERS)} here; "
            f"create one (useradd --system) or set service_user"
        )
    if hand_over:
        handover.hand_over_state_path(settings.state_path, user, make=make)
    if log is not None:
        handover.hand_over_log(log, user)
    _use_helper(_start_launcher(settings, user))
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
    command = cfg.CONF.privsep.helper_command
    if launcher.UNIT_SOCKET in command:
        return f"its unit says why: {_UNIT_JOURNAL}"
    if launcher.__file__ in command:
        return "the launcher says why, on this agent's stderr"
    return (
        f"allow {_own_name()} to run it (sudoers.d/ovn-metadata-agent) and "
        f"try by hand: {command}"
    )


def _use_helper(command: list[str]) -> None:
    """Have oslo.privsep start its daemon with COMMAND."""
    cfg.CONF([], project="ovn-metadata-agent", default_config_files=[])
    cfg.CONF.set_override(
        "helper_command", shlex.join(command), group="privsep"
    )


def _program(name: str) -> str:
    """Return the path of a program that was installed along with us."""
    folder = Path(sys.executable).parent
    beside = folder / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _daemon_options(settings: Settings) -> list[str]:
    # Where its folder is closed to us Path.exists would raise.
    if os.path.exists(settings.privileged_config):  # noqa: PTH110
        return ["--config-file", str(settings.privileged_config)]
    return []


def _direct(settings: Settings) -> list[str]:
    return [_program("privsep-helper"), *_daemon_options(settings)]


def _unit_command(settings: Settings) -> list[str] | None:
    """Return the command that has systemd start the daemon.

    None where its socket is not. Raises StartError if what is there is not
    root's.
    """
    path = launcher.UNIT_SOCKET
    try:
        entry = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != 0:
        raise StartError(f"{path} is not a socket of root's; remove it")
    _check_there(settings.privileged_config, "the daemon's unit")
    return [sys.executable, "-I", launcher.__file__, "ask", path]


def _check_there(path: Path, whose: str) -> None:
    if not os.path.exists(path):  # noqa: PTH110 # as above
        raise StartError(
            f"{path} is missing; install it (it may be empty): {whose} "
            f"names it"
        )


def _sudo_command(settings: Settings) -> list[str]:
    """Return the command that starts the daemon for an unprivileged us."""
    command = _sudo_command_of(settings)
    if command[0] == "sudo" and kernel.has_no_new_privileges():
        raise StartError(
            f"sudo can't be used here (no_new_privs), and there is no "
            f"{launcher.UNIT_SOCKET}; start ovn-metadata-privsep.socket"
        )
    return command


def _sudo_command_of(settings: Settings) -> list[str]:
    own = [
        "sudo",
        "-n",  # never ask: there is nobody to answer
        _program("ovn-metadata-rootwrap"),
        ROOTWRAP_CONFIG,
    ]
    theirs = shlex.split(settings.helper_command or settings.root_helper or "")
    if not theirs or (_is_neutrons(theirs) and Path(ROOTWRAP_CONFIG).exists()):
        _check_there(settings.privileged_config, "the sudo rule")
        return [*own, "privsep-helper", *_daemon_options(settings)]
    if theirs[0] == "sudo" and "-n" not in theirs:
        theirs.insert(1, "-n")
    if not settings.helper_command:
        theirs.append("privsep-helper")
    elif Path(theirs[-1]).name != "privsep-helper":
        return theirs  # the operator's own, to the last word
    return [*theirs, *_daemon_options(settings)]


def _is_neutrons(command: list[str]) -> bool:
    """Tell whether COMMAND is by Neutron's rootwrap.

    The operator's file is Neutron's as it was; our own rule is tighter,
    and Neutron itself may be gone.
    """
    return any(Path(word).name == "neutron-rootwrap" for word in command)


def _start_launcher(settings: Settings, user: pwd.struct_passwd) -> list[str]:
    """Start the launcher; return the command that has it start a daemon.

    It lives as long as the pipe that we keep open to its stdin, so it
    needs no stopping; a child of ours must not get that end.
    """
    name = f"ovn-metadata-launcher-{os.getpid()}-{secrets.token_hex(8)}"
    reader, _writer = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-I",
            launcher.__file__,
            "serve",
            name,
            str(user.pw_uid),
            _program("privsep-helper"),
            *_daemon_options(settings)[1:],
        ],
        stdin=reader,
        stdout=subprocess.PIPE,
        env={"PATH": os.defpath},
        cwd="/",
    )
    os.close(reader)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise StartError("the privileged launcher did not start")
    process.stdout.close()
    return [sys.executable, "-I", launcher.__file__, "ask", name]


def drop_to(user: pwd.struct_passwd) -> None:
    """Become USER for good, without any capability or way to get one."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ["HOME"] = user.pw_dir
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise StartError(f"prctl: {os.strerror(ctypes.get_errno())}")
