"""Talk to a running haproxy over its stats socket.

Commands and answers: haproxy's management guide, "Unix Socket commands".
"""

import contextlib
import re
import time
from pathlib import Path
from typing import NamedTuple

from .. import unixsocket
from ..errors import HaproxyError
from . import answers, limits, mapfile
from .counters import info

_TIMEOUT_S = 3.0
# For all commands that change a map: a thousand take less than a second.
_CHANGE_S = 20.0
# A haproxy that seems to do nothing is asked again after this time.
_QUIET_S = 300.0
NOVA_TIMEOUT_S = 5.0
_MAX_NOVA = 64 * 1024  # a page of another web server may have no end
# A haproxy that was broken into may send anything, without an end. An entry of
# a map has some 260 bytes (with the longest ids 700), one of a table 400.
_MAX_ANSWER = 8 << 20
_MOST_ENTRIES = 1 << 16  # of a map: each may cost a command
# So many commands go in one line, each of at most 900 bytes. haproxy's buffer
# is 16 kB, and haproxy 3.2 refuses a line that is longer.
_IN_A_LINE = 12


class Stats(NamedTuple):
    """A haproxy's stats socket."""

    path: Path
    uid: int  # of that haproxy, which owns the socket


class Quiet:
    """Tells whether a haproxy has done anything since it last answered.

    A process that has not run has counted nothing. A signal that stops it
    makes it run first. FILES are compared, too. Where it is in another PID
    namespace than ours, PID is no process of the user UID.
    """

    def __init__(self, pid: str, uid: int, *files: Path) -> None:
        self._process, self._uid = Path("/proc", pid), uid
        self._ran, self._files = self._process / "schedstat", files
        self._until = time.monotonic() + _QUIET_S
        self._last = self._state()

    def is_same(self) -> bool:
        """Return whether it need not be asked, as far as can be seen."""
        same = self._last is not None and self._state() == self._last
        return same and time.monotonic() < self._until

    def _state(self) -> object:
        with contextlib.suppress(OSError):
            found = [file.lstat() for file in self._files]
            ran = self._ran.read_bytes()  # proc(5); zeros: it is not counted
            if self._process.stat().st_uid == self._uid and ran[:2] != b"0 ":
                return ran, [(one.st_ino, one.st_mtime_ns) for one in found]
        return None


class NovaAnswer(NamedTuple):
    """An answer that came through the gateway."""

    status: int  # 0: there was none
    is_from_nova: bool  # not the gateway's own
    took_s: float
    is_page: bool = False  # a web page; Nova's root is plain text


def ask(stats: Stats, command: str, *, timeout_s: float = _TIMEOUT_S) -> str:
    """Return what the haproxy of STATS answers to COMMAND.

    Raises OSError if no process listens there, it ends meanwhile or the file
    is not its socket, TimeoutError if it takes too long, HaproxyError if the
    answer is longer than any can be.
    """
    answer = unixsocket.exchange(
        stats.path,
        command.encode() + b"\n",
        max_bytes=_MAX_ANSWER,
        timeout_s=timeout_s,
        owner=stats.uid,
    )
    if len(answer) > _MAX_ANSWER:
        raise HaproxyError("the answer is too long")
    # An answer ends with an empty line, except one to "get var".
    last = command.rpartition("; ")[2]
    end = b"\n" if last.startswith("get var") else b"\n\n"
    if answer != b"\n" and not answer.endswith(end):
        raise ConnectionResetError("it ended before it had answered")
    return answer.decode(errors="replace")


def ask_nova(
    gateway: Path, path: str, instance: str, signature: str, server: int
) -> NovaAnswer:
    """Return what the socket GATEWAY answers to a request of INSTANCE.

    It passes the request on to the server with that number, unless that is
    down or gives no answer.
    """
    request = (
        f"GET {path} HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n"
        f"X-Instance-ID: {instance}\r\nX-Tenant-ID: {instance}\r\n"
        f"X-Instance-ID-Signature: {signature}\r\n"
        f"{limits.SERVER}: nova{server}\r\n\r\n"
    )
    begun = time.monotonic()
    answer = b""
    with contextlib.suppress(OSError):
        answer = unixsocket.exchange(
            gateway,
            request.encode(),
            max_bytes=_MAX_NOVA,
            timeout_s=NOVA_TIMEOUT_S,
        )
    found = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ", answer)
    status = int(found[1]) if found else 0
    own = (text.encode() in answer for text in answers.GATEWAY.values())
    is_from_nova = status != 0 and not any(own)
    is_page = b"content-type: text/html" in answer.lower()
    took_s = time.monotonic() - begun
    return NovaAnswer(status, is_from_nova, took_s, is_page)


def running_digest(stats: Stats, config: Path) -> str | None:
    """Return what `digest_in` does; None if no haproxy listens at STATS.

    Raises TimeoutError if it is too busy to answer, PermissionError if the
    kernel lets us reach none that may listen, and OSError.
    """
    try:
        return digest_in(ask(stats, "show info"), config)
    except (FileNotFoundError, ConnectionError):
        return None


def digest_in(answer: str, config: Path) -> str:
    """Return the digest in the ANSWER to "show info".

    "" if the process runs on no configuration of the agent's, or if the file
    CONFIG has changed since it started: then it may have read something else
    with the same digest in it.
    """
    try:
        # Start_time_sec is rounded down.
        if config.stat().st_mtime > int(info(answer, "Start_time_sec")) + 1:
            return ""
    except (FileNotFoundError, ValueError):
        return ""
    return info(answer, "description")


def read_map(stats: Stats, file: Path) -> dict[str, str]:
    """Return the map FILE as the haproxy has it.

    Raises HaproxyError if it has no such map or one with far too many
    entries, OSError as `ask` does.
    """
    answer = ask(stats, f"show map {file}")
    if answer.count("\n") > _MOST_ENTRIES:
        raise HaproxyError(f"the map {file} has too many entries")
    if answer.startswith("Unknown map"):
        raise HaproxyError(f"haproxy has no map {file}")
    return mapfile.parse_map(answer.splitlines())


def change_map(stats: Stats, commands: list[str]) -> None:
    """Send COMMANDS, of `mapfile`; raise HaproxyError if one is refused.

    A haproxy that was broken into may answer each of many in the last moment.
    """
    deadline = time.monotonic() + _CHANGE_S
    for start in range(0, len(commands), _IN_A_LINE):
        if time.monotonic() > deadline:
            raise HaproxyError("it takes too long to change its map")
        line = "; ".join(commands[start : start + _IN_A_LINE])
        if answer := ask(stats, line).strip():
            raise HaproxyError(f"map not changed: {answer:.200}")
