"""Start the privileged daemon for an agent that has no sudo.

It does one thing: run privsep-helper, with arguments that are fixed, for
one user. Whom it is for the kernel says (SO_PEERCRED). It is there in two
forms:

- `ovn-metadata-privsep` is what systemd starts for each connection to
  ovn-metadata-privsep.socket; then nothing of root's runs but the daemon;
- where the agent is started as root (containers do that), it starts this
  file as its child before it drops to the service user: it stays root,
  listens on an abstract socket, and ends with the agent.

The daemon is to connect to a socket that the agent listens on. No name of
it is sent: it would be looked up by root, in folders of that user's, and
need the capability to pass through them. The agent sends the socket itself
(a descriptor of its inode); privsep-helper finds that as its own stdin, so
its command line is the same each time.

As a file it is run isolated, of the standard library only: it stays small,
and what root runs is on this page.

    launcher.py serve NAME UID HELPER [CONFIG]     (root; stdin: a pipe)
    launcher.py ask NAME --privsep_context C --privsep_sock_path PATH
"""

from __future__ import annotations

import os
import pwd
import select
import socket
import stat
import struct
import subprocess
import sys

# Of ovn-metadata-privsep.socket.
UNIT_SOCKET = "/run/ovn-metadata-privsep.sock"
CONTEXT = "ovn_metadata.privsep.context.default"
_STDIN = "/proc/self/fd/0"
_MAX_MESSAGE = 4096
_HELPER_TIMEOUT_S = 20
_CLIENT_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 30


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
        os.dup2(2, 1)  # nobody reads there from now on; what helpers say
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:  # nothing is ever sent there: the agent ended
                return 0
            connection, _ = listener.accept()
            with connection:
                if _peer_uid(connection) == int(uid):
                    _answer(connection, int(uid), helper, config)


def serve_one() -> int:
    """Answer the one connection that is our stdin; return the exit code.

    The command line: USER HELPER [CONFIG]. The daemon is left running, as
    the one process of its unit.
    """
    user, helper, *config = sys.argv[1:]
    with socket.socket(fileno=os.dup(0)) as connection:
        uid, peer = pwd.getpwnam(user).pw_uid, _peer_uid(connection)
        if peer != uid:
            _fail(f"refused: uid {peer} is not {user}")
            return 1
        return 0 if _answer(connection, uid, helper, *config) else 1


def _answer(
    connection: socket.socket, uid: int, helper: str, config: str = ""
) -> bool:
    """Do what CONNECTION asks; tell whether there is a daemon then.

    Outlives whatever the other side does.
    """
    connection.settimeout(_CLIENT_TIMEOUT_S)
    try:
        answer = _launch(connection, uid, helper, config)
        connection.send(answer.encode())
    except OSError as error:
        return _fail(str(error))
    return answer == "ok" or _fail(answer)


def _fail(reason: str) -> bool:
    print(f"privileged launcher: {reason}", file=sys.stderr)
    return False


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", data)[1])


def _launch(
    connection: socket.socket, uid: int, helper: str, config: str
) -> str:
    """Run the helper for the socket that CONNECTION sends."""
    _, received, _, _ = socket.recv_fds(connection, _MAX_MESSAGE, 1)
    try:
        if not received or not _is_socket_of(uid, received[0]):
            return "refused: not a socket of the agent's"
        return _run(_command(helper, config), uid, stdin=received[0])
    finally:
        for descriptor in received:
            os.close(descriptor)


def _is_socket_of(uid: int, descriptor: int) -> bool:
    entry = os.fstat(descriptor)
    return stat.S_ISSOCK(entry.st_mode) and entry.st_uid == uid


def _command(helper: str, config: str) -> list[str]:
    options = ["--config-file", config] if config else []
    options += ["--privsep_context", CONTEXT, "--privsep_sock_path", _STDIN]
    return [helper, *options]


def _run(command: list[str], uid: int, *, stdin: int) -> str:
    """Run COMMAND for UID; it ends when its daemon is connected."""
    try:
        result = subprocess.run(
            command,
            stdin=stdin,
            env={"PATH": os.defpath, "SUDO_UID": str(uid)},
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "ok" if result.returncode == 0 else f"exit {result.returncode}"


def ask(name: str, *options: str) -> int:
    """Have the launcher at NAME start a daemon; 0 when it did.

    NAME is a path or the name of an abstract socket.
    """
    path = options[options.index("--privsep_sock_path") + 1]
    try:
        answer = _ask(name if name.startswith("/") else f"\0{name}", path)
    except (ConnectionResetError, BrokenPipeError):
        answer = ""
    except OSError as error:
        answer = f"{name}: {error.strerror or error}"
    if answer == "ok":
        return 0
    _fail(answer or "ended without an answer; its unit's journal has why")
    return 1


def _ask(address: str, path: str) -> str:
    """Send the socket PATH to the launcher at ADDRESS; return its answer."""
    # To the daemon we are one of the others: it has no capability to pass
    # by a mode. Nobody else gets at the socket, by its folder's mode.
    os.chmod(path, 0o666)  # noqa: S103
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_ANSWER_TIMEOUT_S)
        connection.connect(address)
        socket.send_fds(connection, [b"start"], [descriptor])
        return connection.recv(_MAX_MESSAGE).decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
