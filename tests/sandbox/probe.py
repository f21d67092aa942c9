"""What a program does that has taken over a haproxy: all that it can.

Run by itself, with a haproxy's credentials: `python -I probe.py` reads a list
of attempts, as JSON, and tells what became of each: "" if it succeeded, else
the kernel's word for why not (EACCES, EPERM, ...).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_TIMEOUT_S = 3.0
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_PTRACE_ATTACH = 16  # <sys/ptrace.h>
_libc = ctypes.CDLL(None, use_errno=True)


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def make(folder: str) -> None:
    path = Path(folder, "made-by-a-probe")
    path.touch(exist_ok=False)
    path.unlink()


def list_(folder: str) -> None:
    list(Path(folder).iterdir())


def unlink(path: str) -> None:
    Path(path).unlink()


def connect(path: str) -> None:
    # By a descriptor: a path of the file system may be too long.
    at = os.open(path, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(_TIMEOUT_S)
        link.connect(f"/proc/self/fd/{at}")


def connect_tcp(place: str) -> None:
    host, _, port = place.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S):
        pass


def send_signal(pid: str) -> None:
    os.kill(int(pid), signal.SIGCONT)


def trace(pid: str) -> None:
    _check(_libc.ptrace(_PTRACE_ATTACH, int(pid), 0, 0))


def enter(pid: str) -> None:
    with open(f"/proc/{pid}/ns/net") as file:
        _check(_libc.setns(file.fileno(), _CLONE_NEWNET))


def become(uid: str) -> None:
    os.setresuid(int(uid), int(uid), int(uid))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


ACTS: dict[str, Callable[[str], None]] = {
    "read": read,
    "write": write,
    "make": make,
    "list": list_,
    "unlink": unlink,
    "connect": connect,
    "connect-tcp": connect_tcp,
    "signal": send_signal,
    "trace": trace,
    "enter": enter,
    "become": become,
}


def attempt(act: str, target: str) -> str:
    """Do ACT to TARGET; return "" or why that failed."""
    try:
        ACTS[act](target)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


if __name__ == "__main__":
    json.dump([attempt(*each) for each in json.load(sys.stdin)], sys.stdout)
