"""Unix sockets: ask at a file, also where its path is a long one; serve."""

import contextlib
import errno
import logging
import os
import socket
import socketserver
import stat
import struct
import threading
import time
from pathlib import Path
from typing import Any

from ..privsep.kernel import closing, received

LOG = logging.getLogger(__name__)

_ACCEPT_PAUSE_S = 0.2
# For a descriptor that stands for a file, whatever its name.
_FILE = os.O_PATH | os.O_CLOEXEC


def _connect(connection: socket.socket, descriptor: int) -> None:
    """Connect CONNECTION to the socket file that DESCRIPTOR stands for.

    While the server's queue is full it waits, for the timeout of CONNECTION.
    A socket that does not block, which one with a timeout is for Python,
    would fail at once.
    """
    timeout_s = connection.gettimeout()
    connection.settimeout(None)
    try:
        if timeout_s is not None:
            parts = int(timeout_s), int(timeout_s % 1 * 1e6) or 1  # 0 is none
            limit = struct.pack("@ll", *parts)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(f"/proc/self/fd/{descriptor}")
    except BlockingIOError:
        text = "too many clients wait for its answer"
        raise TimeoutError(errno.ETIMEDOUT, text) from None
    finally:
        connection.settimeout(timeout_s)


class LastingServer(socketserver.ThreadingTCPServer):
    """A server that outlasts a lack of descriptors and a lost socket file.

    It listens on ADDRESS, a host and a port, or on a unix socket's path. A
    unix socket is for the server's group.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: Any, handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        if isinstance(address, str):
            self.address_family = socket.AF_UNIX
        elif ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def start(self, name: str) -> None:
        """Serve in a thread called NAME."""
        threading.Thread(
            target=self.serve_forever, name=name, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop serving and remove a unix socket."""
        self.shutdown()
        self.server_close()
        if isinstance(self.server_address, str):
            Path(self.server_address).unlink(missing_ok=True)

    def server_bind(self) -> None:
        """Bind; a unix socket in place of an earlier server's."""
        path = self.server_address
        if not isinstance(path, str):
            super().server_bind()
            return
        make_way(Path(path))
        self.socket.bind(path)
        Path(path).chmod(0o660)

    def service_actions(self) -> None:
        """Make the socket's file again where somebody has removed it."""
        path = self.server_address
        if not isinstance(path, str) or os.path.lexists(path):
            return
        lost = self.socket
        with (
            contextlib.suppress(OSError),  # it is tried again soon
            socket.socket(socket.AF_UNIX) as self.socket,
        ):
            self.server_bind()
            self.server_activate()
            os.dup2(self.socket.fileno(), lost.fileno(), inheritable=False)
        self.socket = lost

    def get_request(self) -> tuple[Any, Any]:
        """Accept the next client; raise OSError.

        Without a free descriptor the client stays in the queue: wait, so as
        not to try as fast as possible.
        """
        try:
            return super().get_request()
        except OSError:
            time.sleep(_ACCEPT_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a client closed before it had its answer."""
        LOG.debug("a client closed too early: %s", self.server_address)


def make_way(path: Path) -> None:
    """Remove an earlier server's socket at PATH; raise OSError.

    Anything else that is there stays, as does a socket with a server.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            text = "it is there and is not a socket; move it away"
            raise FileExistsError(errno.EEXIST, text)
        if is_listening(path):
            raise FileExistsError(errno.EEXIST, "another process listens")
        path.unlink()


def is_listening(path: Path) -> bool:
    """Return whether a process listens on the socket file PATH.

    Found out from the file itself, because a process can bind any name that
    it likes to appear in /proc/net/unix. A link is not followed.
    """
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        closing(os.open(path, _FILE | os.O_NOFOLLOW)) as found,
        socket.socket(socket.AF_UNIX) as client,
    ):
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            return False
        client.settimeout(0)
        try:
            _connect(client, found)
        except TimeoutError:  # its queue is full
            return True
        except PermissionError:
            return _file_of(found) in _listening_files()
        return True
    return False


def _file_of(descriptor: int) -> tuple[int, int]:
    """Return the inode and the device of a file, as sock_diag(7) has them.

    The device is the file system's; on btrfs, stat(2) has another one.
    """
    inode = os.fstat(descriptor).st_ino & 0xFFFFFFFF
    info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    mount = info.partition("mnt_id:")[2].split()[0]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        number, _, device, *_ = line.split()
        if number == mount:
            major, minor = map(int, device.split(":"))
            return inode, major << 20 | minor
    return inode, 0


def _listening_files() -> set[tuple[int, int]]:
    """Return inode and device of each socket file with a listener.

    From sock_diag(7), which needs no permission. Empty if the kernel has no
    unix_diag.
    """
    # Not at the top: agent-status is slower to start with it.
    from pyroute2.netlink import diag, exceptions  # noqa: PLC0415

    with (
        contextlib.suppress(exceptions.NetlinkError),
        diag.DiagSocket() as kernel,
    ):
        found = kernel.get_sock_stats(
            family=socket.AF_UNIX,
            states=1 << diag.SS_LISTEN,
            show=diag.UDIAG_SHOW_VFS,
        )
        files = (one.get_attr("UNIX_DIAG_VFS") for one in found)
        return {
            (file["udiag_vfs_ino"], file["udiag_vfs_dev"])
            for file in files
            if file is not None  # of an abstract socket
        }
    return set()


def exchange(
    path: Path,
    request: bytes,
    *,
    max_bytes: int,
    timeout_s: float,
    owner: int | None = None,
) -> bytes:
    """Return what the socket PATH answers to REQUEST, until it closes.

    It is cut soon after MAX_BYTES. OWNER is for a folder in which that user
    may make any file: with a link, OWNER could make us speak to a socket that
    only we can reach. Raises FileNotFoundError if PATH is a link then, no
    socket of OWNER or not open to all; TimeoutError if the connection takes
    longer than TIMEOUT_S, or after that the answer altogether; OSError.
    """
    flags = _FILE if owner is None else _FILE | os.O_NOFOLLOW
    with (
        closing(os.open(path, flags)) as found,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        entry = os.fstat(found)
        is_socket = stat.S_ISSOCK(entry.st_mode)
        if owner is not None and not (is_socket and entry.st_uid == owner):
            raise FileNotFoundError(f"{path} is no socket of uid {owner}")
        connection.settimeout(timeout_s)
        try:
            _connect(connection, found)
        except PermissionError as error:
            if owner is not None and not entry.st_mode & stat.S_IWOTH:
                text = f"{path} was closed by uid {owner}"
                raise FileNotFoundError(text) from None
            raise PermissionError(error.errno, error.strerror, path) from None
        # agent-status ends at SIGPIPE otherwise.
        connection.sendall(request, socket.MSG_NOSIGNAL)
        answer = bytearray()
        for part in received(connection, timeout_s):
            answer += part
            if len(answer) > max_bytes:
                break
    return bytes(answer)
