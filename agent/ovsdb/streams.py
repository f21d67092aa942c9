"""How the OVSDB library connects, by TCP, TLS and Unix sockets.

The library's own streams resolve no names (PyPI's needs `unbound` for it, and
Debian's does it in the IDL's thread), raise for a file that can't be read,
do not count some failed handshakes as failures, and report no reasons. Its
JSON-RPC drops a connection if a character arrives in two parts. So the streams
here replace them, for each connection of this process.
"""

import codecs
import contextlib
import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from ovs.stream import SSLStream, Stream, TCPStream, UnixStream

from ..config.values import is_address
from ..lookup import look_up
from ..threads import in_thread

# A peer that is silent for 15 s has lost its power or its address. The kernel
# finds out: an idle connection costs no work of either process.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000),  # ms
)


class Failure(int):
    """An errno with its reason in words; the library passes it on."""

    words: str


def _failure(number: int, reason: str) -> Failure:
    failure = Failure(number)
    failure.words = reason
    return failure


def words(error: int) -> str:
    """Return what ERROR, a status of the library, means."""
    if isinstance(error, Failure):
        return error.words
    if error > 0:
        return os.strerror(error)
    return "it closed the connection" if error else "it does not answer"


class Names:
    """The addresses of the servers' names, looked up in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, list[str]] = {}
        self._begun: dict[str, Future[int]] = {}
        self.problems: dict[str, str] = {}  # why a name has no address

    def in_turn(self, host: str) -> list[str]:
        """Return the known addresses of HOST; the next call starts later."""
        if is_address(host):
            return [host]
        with self._lock:
            found = self._found.get(host, [])
            self._found[host] = found[1:] + found[:1]
        return found

    def refresh(self, host: str) -> None:
        """Look HOST up in a thread, unless one does already."""
        with self._lock:
            begun = self._begun.get(host)
            if is_address(host) or (begun and not begun.done()):
                return
            try:
                self._begun[host] = in_thread(lambda: self.look_up(host))
            except RuntimeError as error:  # no more processes are allowed
                self.problems[host] = f"{host}: {error}"

    def look_up(self, host: str) -> int:
        """Look HOST up now; return how many addresses of it are known.

        If that fails, the addresses found before still count.
        """
        found = []
        try:
            found = [host] if is_address(host) else look_up(host)
        except OSError as error:
            self.problems[host] = f"{host}: {error.strerror or error}"
        with self._lock:
            # The same addresses keep their turn.
            if found and {*found} != {*self._found.get(host, ())}:
                self._found[host] = found
            return len(self._found.get(host, ()))


NAMES = Names()


def host_of(remote: str) -> str:
    """Return the host of REMOTE; 127.0.0.1 for a Unix socket."""
    host = remote.partition(":")[2].rpartition(":")[0]
    return host.strip("[]") or "127.0.0.1"


def _open(
    library: type[Stream], suffix: str, dscp: int
) -> tuple[int, socket.socket | None]:
    """Begin a connection to SUFFIX (host and port) as LIBRARY does.

    An address that fails at once is passed over. If it fails later, the next
    attempt uses the next address.
    """
    host, port = host_of(f":{suffix}"), suffix.rpartition(":")[2]
    why = NAMES.problems.get(host, f"{host} has no address")
    error: int = _failure(errno.EDESTADDRREQ, why)
    for address in NAMES.in_turn(host):
        error, sock = library._open(f"[{address}]:{port}", dscp)
        if not error:
            for option in _KEEPALIVE:
                sock.setsockopt(*option)
            return 0, sock
    return error, None


class Whole(Stream):  # type: ignore[misc]  # untyped
    """A connection that hands out whole characters of UTF-8.

    The library decodes what one call receives, and takes a part for an error.
    Networks and ports have the names that projects gave them.
    """

    _rest = b""

    def recv(self, n: int) -> tuple[int, Any]:
        """Return an errno and what arrived; no bytes at the end."""
        error, data = self._read(n)
        if error or not data:
            return error, data
        data = self._rest + data
        _, size = codecs.utf_8_decode(data, "replace")
        self._rest = data[size:]
        return (0, data[:size]) if size else self.recv(n)

    def _read(self, n: int) -> tuple[int, Any]:
        return super().recv(n)  # type: ignore[no-any-return]  # untyped


class Unix(Whole, UnixStream):  # type: ignore[misc]  # untyped
    """A connection to `unix:PATH`."""


class Tcp(Whole, TCPStream):  # type: ignore[misc]  # untyped
    """A connection to `tcp:HOST:PORT`."""

    @staticmethod
    def _open(suffix: str, dscp: int) -> tuple[int, socket.socket | None]:
        return _open(TCPStream, suffix, dscp)


class Tls(Whole, SSLStream):  # type: ignore[misc]  # untyped
    """A connection to `ssl:HOST:PORT`; each one reads its files again."""

    # Whether the server is there, whether the handshake is over, and whether
    # it waits for bytes.
    is_reached = _secured = _wants_read = False

    @staticmethod
    def _open(suffix: str, dscp: int) -> tuple[int, socket.socket | None]:
        try:
            _check_files()
            return _open(SSLStream, suffix, dscp)
        except OSError as error:
            return _failure(errno.ENOKEY, str(error)), None

    @staticmethod
    def check_connection_completion(sock: socket.socket) -> int:
        """Return 0, the errno, or EAGAIN while the connection is begun."""
        # The library sends a byte to find the errno, too early for TLS.
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as plain:
            error: int = Stream.check_connection_completion(plain)
        return error

    def connect(self) -> int:
        """Go on with the connection, then with the handshake."""
        error: int = 0 if self._secured else Stream.connect(self)
        if error or self._secured:
            return error
        self.is_reached = True
        try:
            self.socket.do_handshake()
        except OSError as failure:
            self._wants_read = isinstance(failure, ssl.SSLWantReadError)
            return _error(failure)
        self._secured = True
        return 0

    def connect_wait(self, poller: Any) -> None:
        """Wake up when `connect` can go on.

        The library waits until it can write, and that is always.
        """
        if self._wants_read:
            poller.fd_wait(self.socket, select.POLLIN)
        else:
            super().connect_wait(poller)

    def _read(self, n: int) -> tuple[int, Any]:
        try:
            return self._recv(n)  # type: ignore[no-any-return]  # untyped
        except OSError as failure:
            return _error(failure), b""

    def send(self, buf: Any) -> int:
        """Return how many bytes are sent, or a negative errno."""
        try:
            return self._send(buf)  # type: ignore[no-any-return]  # untyped
        except OSError:
            # With TLS 1.3 a server refuses our certificate after the
            # handshake: `recv` finds the reason.
            return -errno.EAGAIN


def _check_files() -> None:
    """Raise OSError with the option and the file that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with _reading("ovn_sb_ca_cert", Stream._SSL_ca_cert_file) as file:
        context.load_verify_locations(file)
    certificate = Stream._SSL_certificate_file
    with _reading("ovn_sb_certificate", certificate) as file:
        context.load_verify_locations(file)
    with _reading("ovn_sb_private_key", Stream._SSL_private_key_file) as file:
        # Else OpenSSL asks for a passphrase on the terminal.
        context.load_cert_chain(certificate, file, password=lambda: "")


@contextlib.contextmanager
def _reading(option: str, file: str) -> Iterator[str]:
    try:
        yield file
    except OSError as error:
        reason = error.strerror
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "incomplete, not PEM, or has a passphrase"
        raise OSError(f"{option} {file}: {reason}") from None


def _error(failure: OSError) -> int:
    """Return the errno of a FAILURE of a TLS socket.

    The library takes OpenSSL's numbers for errnos: "Operation not permitted".
    """
    if isinstance(failure, ssl.SSLWantReadError | ssl.SSLWantWriteError):
        return errno.EAGAIN
    if not isinstance(failure, ssl.SSLError):
        gone = failure.errno == errno.ENOTCONN  # before the handshake
        return errno.ECONNRESET if gone else failure.errno or errno.EPROTO
    reason = failure.reason or "closed before the handshake ended"
    if isinstance(failure, ssl.SSLCertVerificationError):
        why = f"certificate verify failed: {failure.verify_message}"
        reason = f"{why} (ovn_sb_ca_cert {Stream._SSL_ca_cert_file})"
    elif "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        file = Stream._SSL_certificate_file
        reason = f"it refuses ovn_sb_certificate {file}: {reason}"
    return _failure(errno.EPROTO, f"TLS: {reason}")


Stream.register_method("unix", Unix)
Stream.register_method("tcp", Tcp)
Stream.register_method("ssl", Tls)
