"""Start a daemon for each connection, where systemd can't do it.

    python -I -m ovn_metadata.privsep.acceptor NAME UID COMMAND...

An agent that is started as root (containers do that) starts this before it
becomes UID. This process stays root, accepts UID's connections to the abstract
socket NAME, and runs COMMAND with each as its stdin. Its own stdin is a pipe
from the agent; it ends when that ends. It loads little, because it waits most
of the time.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

from . import kernel
from .signals import survive


def main(name: str, uid: str, *command: str) -> int:
    """Accept connections until stdin ends; return the exit code."""
    survive()
    signal.signal(signal.SIGCHLD, _bury)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(128)
        os.write(1, b"ready\n")
        os.dup2(2, 1)  # the agent reads nothing after "ready"
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:  # the agent sends nothing, so it has ended
                return 0
            try:
                connection, _ = listener.accept()
                with connection:
                    # Any local user can connect to an abstract socket.
                    if kernel.peer_uid(connection) == int(uid):
                        end, env = connection.fileno(), {"PATH": os.defpath}
                        subprocess.Popen(command, stdin=end, env=env, cwd="/")
            except OSError as error:  # the agent sees its connection end
                print(f"{command[0]}: {error}", file=sys.stderr)
                time.sleep(0.2)  # without descriptors it waits in the queue


def _bury(*_signal: object) -> None:
    """Reap the daemons that have ended, so that no zombie is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
