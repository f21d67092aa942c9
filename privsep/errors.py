"""Errors that the daemon can send to the agent.

oslo.privsep sends an exception as its class and `args`, and rebuilds it as
`cls(*args)`: each class here is made of its one text.
"""

import errno
import os

_PLAIN = (str, bytes, int, float, type(None))
_HANGS = "is it stopped or overloaded?"
_NO_MEMORY = "free memory, or raise MemoryMax of its unit"
_NO_RIGHT = "allow its user to do that (docs/how-to/confinement.md)"
# What an operator can do about an error of the system, or of a class.
_REMEDIES: dict[object, str] = {
    errno.EACCES: _NO_RIGHT,
    errno.EAGAIN: "too many processes, or a full queue: raise TasksMax",
    errno.ECONNREFUSED: "no process listens there: start it",
    errno.EDQUOT: "free space there, or raise the quota",
    errno.EIO: "look for errors of the disk (dmesg)",
    errno.EISDIR: "a file belongs there: move the folder away",
    errno.EMFILE: "raise LimitNOFILE of its unit",
    errno.ENFILE: "raise fs.file-max (sysctl)",
    errno.ENOBUFS: _NO_MEMORY,
    errno.ENOMEM: _NO_MEMORY,
    errno.ENOSPC: "free space or inodes there (df, df -i)",
    errno.ENOTDIR: "a folder belongs there: move the file away",
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "make it writable",
    errno.ETIMEDOUT: _HANGS,
    **dict.fromkeys(("TimeoutError", "TimeoutExpired"), _HANGS),
    "TimeoutException": "is that ovsdb-server stopped or overloaded?",
}
_OTHER = "if that lasts, see the log, with debug = true"


class PrivilegedError(Exception):
    """The daemon could not do what was requested; the text says why."""


class InvalidArgumentError(PrivilegedError):
    """An argument has a form that the agent never sends."""


class SettingsError(PrivilegedError):
    """The root-owned settings can't be used; the text names the remedy."""


class FleetError(PrivilegedError):
    """supervisord does not run, or refused; the text says why."""


class LinkError(PrivilegedError):
    """A link has one of our names but is not ours."""


class AskError(PrivilegedError):
    """A question got no answer, or none that helps; the text says why."""


class DaemonError(PrivilegedError):
    """The daemon does not run, or does not answer; the text says why."""


class NoRootError(PrivilegedError):
    """No daemon can be started any more; only a restart of the agent helps."""


def sentence(error: BaseException) -> str:
    """Return what happened and what to do, as our own errors say it."""
    kind, words = type(error), " ".join(str(error).split())
    is_ours = kind.__module__.startswith("ovn_metadata.")
    if words and (is_ours or kind is ConnectionError):
        return words
    key: object = kind.__name__
    # Other classes have numbers of their own in args[0].
    is_system = kind.__module__ == "builtins" and isinstance(error, OSError)
    is_system |= key == "NetlinkError"
    if is_system and len(error.args) > 1 and isinstance(error.args[0], int):
        key, said = error.args[:2]
        said = said or os.strerror(error.args[0])
        words = f"{file}: {said}" if (file := _file_of(error)) else str(said)
    elif kind is not TimeoutError or not words:
        words = f"{key}: {words or 'no reason'}"
    return words if "; " in words else f"{words}; {_REMEDIES.get(key, _OTHER)}"


def _file_of(error: BaseException) -> object:
    """Return the file of an OSError; None without one."""
    file = getattr(error, "filename", None)
    return os.fsdecode(file) if isinstance(file, bytes) else file


def sendable(error: Exception) -> Exception:
    """Return ERROR if the agent can rebuild it, else one with its text.

    Some classes keep other `args` than their `__init__` takes
    (`subprocess`'s, `xmlrpc.client.Fault`), and an OSError keeps its file
    elsewhere.
    """
    file = _file_of(error)
    if isinstance(error, OSError) and file is not None:
        return OSError(error.errno, f"{file}: {error.strerror}")
    try:
        rebuilt = str(type(error)(*error.args))
    except Exception:  # noqa: BLE001 # its __init__ can raise anything
        rebuilt = None
    plain = all(isinstance(argument, _PLAIN) for argument in error.args)
    if plain and rebuilt == str(error):
        return error
    return PrivilegedError(sentence(error))
