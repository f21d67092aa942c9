"""The socket where the networks' haproxies ask the gateway.

supervisord holds it, in root's own folder: a gateway that dies leaves it
open. Who asks meanwhile waits in its queue for the next gateway, which has
it as standard input (haproxy: `bind fd@0`).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

_BACKLOG = 4096  # connections that wait; Linux's net.core.somaxconn
_MODE = 0o660


class HeldSocket:
    """A unix socket that listens at PATH for the group GID."""

    def __init__(self, path: Path, *, gid: int) -> None:
        self.path = path
        self.gid = gid
        self._socket = socket.socket(socket.AF_UNIX)
        # Under another name until it can be used: asked before, it refuses.
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        self._socket.bind(str(fresh))
        os.chown(fresh, 0, gid)
        os.chmod(fresh, _MODE)
        self._socket.listen(_BACKLOG)
        fresh.replace(path)

    def close(self) -> None:
        """Let go of it; who was started with it has it still."""
        self._socket.close()

    def give_to(self, process: Any) -> None:
        """Start supervisord's PROCESS with it, from the next time on.

        supervisord gives its programs a pipe as standard input; in the
        child, before that is put in place, this takes the pipe's place.
        """
        prepare = process._prepare_child_fds

        def prepare_with_socket() -> None:
            process.pipes["child_stdin"] = self._socket.fileno()
            prepare()

        process._prepare_child_fds = prepare_with_socket
