"""The three ways in which the agent gets its privileged daemon.

- systemd listens at UNIT_SOCKET and starts a daemon for each connection.
- An agent that is started as root, as in a container, starts a child that
  listens and starts the daemons: the acceptor. Then it becomes the service
  user.
- Without either, the agent starts the daemon with sudo and rootwrap.
"""

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
from ...privsep.errors import PrivilegedError, sentence
from ...privsep.settings import existing
from ..config.settings import Settings
from ..config.sources import may_exist
from ..errors import StartError
from . import ownership, user

ROOTWRAP_CONFIG = "/etc/ovn-metadata-agent/rootwrap.conf"
_HELPER = "privsep-helper"  # oslo.privsep's
_ROOTWRAP = "ovn-metadata-rootwrap"
# Of ovn-metadata-privsep.socket.
UNIT_SOCKET = "/run/ovn-metadata-privsep.sock"


def become_service_user(
    settings: Settings,
    *,
    log: Path | None = None,
    make: bool = True,
    hand_over: bool = True,
) -> str:
    """If we are root: start the acceptor and become the service user.

    With HAND_OVER, that user then owns what an agent that ran as root has
    left in state_path; with MAKE too, state_path is made. The file LOG is
    given to the user if root owns it. Returns a warning for the log, "" if
    we were not root. Raises StartError. Call it before any thread starts.
    """
    # oslo.privsep reads its options from cfg.CONF.
    cfg.CONF([], project="ovn-metadata-agent", default_config_files=[])
    if os.geteuid() != 0:
        _find_way_to_root(settings)
        return ""
    # If we are root by sudo, the daemon must not serve the user before sudo.
    os.environ.pop("SUDO_UID", None)
    account = user.service_user(settings)
    if account is None:
        _start_acceptor(settings, pwd.getpwuid(0))
        return (
            f"running as root: there is no user "
            f"{' or '.join(user.SERVICE_USERS)}; create one "
            f"(useradd --system) or set service_user"
        )
    if hand_over:
        ownership.hand_over_state_path(settings.state_path, account, make=make)
    if log is not None:
        ownership.hand_over_log(log, account)
    _start_acceptor(settings, account)
    user.drop_to(account)
    return f"started as root; runs as {account.pw_name} from now on"


def start_daemon() -> None:
    """Start the privileged daemon; raise StartError if that fails."""
    # The sudoers rule allows a socket for the daemon below /tmp only.
    tempfile.tempdir = "/tmp"  # noqa: S108 # mkdtemp makes a folder in it
    try:
        context.ensure_daemon()
    except (daemon.FailedToDropPrivileges, OSError, PrivilegedError) as error:
        raise StartError(
            f"the privileged daemon did not start: {sentence(error)}; "
            f"{_remedy()}"
        ) from None


def _remedy() -> str:
    """Return what the operator can do if the daemon does not start."""
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
    """Start a child that starts a daemon when ACCOUNT connects.

    The child ends when the pipe to its stdin closes, that is with us. No
    other child of ours may inherit our end of that pipe.
    """
    name = f"ovn-metadata-privsep-{os.getpid()}-{secrets.token_hex(8)}"
    python = (sys.executable, "-I", "-m")
    served = (*python, "ovn_metadata.privsep.daemon", account.pw_name)
    acceptor = (*python, "ovn_metadata.privsep.acceptor", name)
    file = settings.privileged_config
    reader, _writer = os.pipe()
    process = subprocess.Popen(
        (*acceptor, str(account.pw_uid), *served, *existing(file)),
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
    """Choose the unit's socket, or sudo; raise StartError if neither works."""
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
    """Return the command that starts the daemon if we are not root.

    It is the configured one, except if that uses Neutron's rootwrap (from a
    file that was Neutron's): our own rule is stricter, and Neutron may have
    been removed.
    """
    command = shlex.split(settings.helper_command or "")
    # "sudo" is Neutron's default, so nobody chose it.
    if not command and (helper := settings.root_helper or "sudo") != "sudo":
        command = [*shlex.split(helper), _HELPER]
    is_neutrons = any(Path(w).name == "neutron-rootwrap" for w in command)
    if not command or (is_neutrons and may_exist(ROOTWRAP_CONFIG)):
        _check_there(settings.privileged_config, "the sudo rule")
        own = str(Path(sys.executable).parent / _ROOTWRAP)
        rootwrap = shutil.which(own) or shutil.which(_ROOTWRAP) or _ROOTWRAP
        command = ["sudo", rootwrap, ROOTWRAP_CONFIG, _HELPER]
    if command[0] == "sudo" and "-n" not in command:
        command.insert(1, "-n")  # no prompt: nobody could answer it
    if Path(command[-1]).name == _HELPER:
        for file in existing(settings.privileged_config):
            command += ["--config-file", file]
    return command


def _check_there(path: Path, named_by: str) -> None:
    if not existing(path):
        raise StartError(
            f"{path} is missing; install it (it may be empty): {named_by} "
            f"names it"
        )
