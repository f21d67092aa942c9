"""The user that the agent runs as."""

import contextlib
import ctypes
import fcntl
import os
import pwd
import termios

from ..config.settings import Settings
from ..errors import StartError

SERVICE_USERS = ("ovn-metadata", "neutron")
_PR_SET_NO_NEW_PRIVS = 38  # <linux/prctl.h>


def service_user(settings: Settings) -> pwd.struct_passwd | None:
    """Return the user to become; None if there is none.

    That is the configured user, or else the owner of state_path, or else
    the first of SERVICE_USERS that exists. Raises StartError if the
    configured one does not exist or is root.
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


def drop_to(user: pwd.struct_passwd) -> None:
    """Become USER for good, with no capability and no way to get one.

    The controlling terminal is given up: other processes of USER could type
    for root there, through one that we start (ioctl TIOCSTI).
    """
    if os.getsid(0) != os.getpid():  # the leader's own is not a shell's
        with contextlib.suppress(OSError), open("/dev/tty") as terminal:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except PermissionError:
        raise StartError(
            f"can't become {user.pw_name}: root lacks CAP_SETUID or "
            "CAP_SETGID here; see docs/how-to/containers.md"
        ) from None
    os.environ["HOME"] = user.pw_dir
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise StartError(f"prctl: {os.strerror(ctypes.get_errno())}")


def check_readable(settings: Settings) -> None:
    """Raise StartError unless the current user can read all files.

    They were checked before, maybe as root.
    """
    for path in settings.files_in_use():
        if not os.access(path, os.R_OK):
            raise StartError(
                f"{path} can't be read as {own_name()}; allow that user to "
                f"read it and to enter its folders"
            )


def own_name() -> str:
    """Return the current user's name; a container may have none for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
