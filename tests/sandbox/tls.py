"""Certificates, and servers that speak OVSDB's TLS well or badly."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import host
from .daemons import Daemon, run

_NEW = (
    *("openssl", "req", "-newkey", "ec", "-nodes", "-batch"),
    *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
)
_CONFIG = """\
[ca]
default_ca = sandbox
[sandbox]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
default_days = 2
policy = any
[any]
commonName = supplied
"""
_PAST, _LATER = "20200101000000Z", "20200102000000Z"


class Identity(NamedTuple):
    """A key and its certificate."""

    key: Path
    certificate: Path


class Authority:
    """An authority with files in FOLDER, which the agent can read."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.pem"
        folder.mkdir(mode=0o755, exist_ok=True)
        run(
            *(*_NEW, "-x509", "-days", "2", "-subj", f"/CN=sandbox-{name}"),
            *("-keyout", f"{self._key}", "-out", f"{self.certificate}"),
        )
        self.certificate.chmod(0o644)

    def issue(self, name: str, *, expired: bool = False) -> Identity:
        """Return a new identity NAME, or one that has EXPIRED."""
        made = Identity(
            self._folder / f"{name}.key", self._folder / f"{name}.pem"
        )
        request = self._folder / f"{name}.request"
        run(
            *(*_NEW, "-subj", f"/CN={name}"),
            *("-keyout", f"{made.key}", "-out", f"{request}"),
        )
        # `openssl x509` takes no date in 3.0, and no negative days since 3.4.
        (self._folder / "index.txt").write_text("")
        config = self._folder / "ca.conf"
        config.write_text(_CONFIG.format(folder=self._folder))
        dates = ("-startdate", _PAST, "-enddate", _LATER) if expired else ()
        run(
            *("openssl", "ca", "-batch", "-notext"),
            *("-config", f"{config}", "-cert", f"{self.certificate}"),
            *("-keyfile", f"{self._key}", "-in", f"{request}"),
            *("-out", f"{made.certificate}", *dates),
        )
        os.chown(made.key, 0, host.ids(host.SERVICE_USER)[1])
        made.key.chmod(0o640)
        made.certificate.chmod(0o644)
        return made


def server(
    folder: Path,
    where: str,
    identity: Identity,
    trusted: Path,
    *,
    database: str,
) -> Daemon:
    """Return an OVSDB server at WHERE ("6651:127.0.0.1") by TLS.

    It TRUSTs the clients of this authority. DATABASE is a file, or a relay.
    """
    name = "server-" + where.replace(":", "-")
    command = (
        *("ovsdb-server", "-vconsole:off"),
        *(f"--unixctl={folder}/{name}.ctl", f"--remote=pssl:{where}"),
        *(f"--private-key={identity.key}", f"--ca-cert={trusted}"),
        *(f"--certificate={identity.certificate}", database),
    )
    ready = folder / f"{name}.ctl"
    return Daemon(name, command, folder / f"{name}.out", ready=ready)


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run DAEMON."""
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


@contextlib.contextmanager
def answering(
    where: tuple[str, int], answer: Callable[[socket.socket], object]
) -> Iterator[Sequence[int]]:
    """Have a server that does ANSWER to each connection, and closes it.

    Yields a list with an item for each.
    """
    taken: list[int] = []
    with socket.create_server(where) as listener:

        def take() -> None:
            with contextlib.suppress(OSError):  # when it is shut down
                while True:
                    with listener.accept()[0] as link:
                        taken.append(link.fileno())
                        with contextlib.suppress(OSError):
                            answer(link)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
