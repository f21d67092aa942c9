"""Start the daemon for an agent that was root and no longer is.

Where the agent is started as root (containers do that), no sudo is needed
and often none is there. Before it drops to the service user the agent
starts this file as its child: it stays root, listens on an abstract socket
for that user alone, and does one thing: run privsep-helper with the
arguments that are fixed here. It ends with the agent.

Run as a file, of the standard library only: it stays small, and what root
keeps running is on this page.

    launcher.py serve NAME UID HELPER [CONFIG]     (root; stdin: a pipe)
    launcher.py ask NAME --privsep_context C --privsep_sock_path PATH
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import subprocess
import sys

CONTEXT = "ovn_metadata.privsep.context.default"
# Where tempfile.mkdtemp puts it (the agent sees to /tmp).
_SOCKET_PATH = re.compile(r"/tmp/tmp[a-z0-9_]{8}/privsep\.sock")  # noqa: S108
_MAX_MESSAGE = 4096
_HELPER_TIMEOUT_S = 20
_CLIENT_TIMEOUT_S = 5


def main(arguments: list[str]) -> int:
    """Serve or ask, as ARGUMENTS say; return the exit code."""
    if arguments[0] == "serve":
        return serve(*arguments[1:])
    return ask(*arguments[1:])


def serve(name: str, uid: str, helper: str, config: str = "") -> int:
    """Answer requests of UID on the socket NAME until stdin ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(b"\0" + name.encode())
        listener.listen(1)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:  # nothing is ever sent there: the agent ended
                return 0
            connection, _ = listener.accept()
            with connection:
                if _peer_uid(connection) == int(uid):
                    _answer(connection, uid, helper, config)


def _answer(
    connection: socket.socket, uid: str, helper: str, config: str
) -> None:
    """Do what CONNECTION asks, and outlive whatever it does."""
    connection.settimeout(_CLIENT_TIMEOUT_S)
    try:
        answer = _launch(connection, uid, helper, config)
        connection.send(answer.encode())
    except OSError as error:
        print(f"privileged launcher: {error}", file=sys.stderr)


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", data)[1])


def _launch(
    connection: socket.socket, uid: str, helper: str, config: str
) -> str:
    """Run the helper for the socket path that CONNECTION sends."""
    path = connection.recv(_MAX_MESSAGE).decode(errors="replace")
    if not _SOCKET_PATH.fullmatch(path):
        return "refused: not a socket path of oslo.privsep's form"
    command = [helper]
    if config:
        command += ["--config-file", config]
    command += ["--privsep_context", CONTEXT, "--privsep_sock_path", path]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.defpath, "SUDO_UID": uid},
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "ok" if result.returncode == 0 else f"exit {result.returncode}"


def ask(name: str, *options: str) -> int:
    """Have the launcher NAME start a daemon; 0 when it did."""
    path = options[options.index("--privsep_sock_path") + 1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(b"\0" + name.encode())
        connection.send(path.encode())
        answer = connection.recv(_MAX_MESSAGE).decode()
    if answer != "ok":
        print(f"privileged launcher: {answer}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
