"""Serve the privileged context on a connected socket.

    ovn-metadata-privsep USER [FILE]

The connection is our stdin: systemd passes it to ovn-metadata-privsep@, and
`acceptor` to its child in a container. The kernel reports the user at the
other end (SO_PEERCRED), which must be USER. FILE has root's settings. The
daemon ends when the connection ends.
"""

import contextlib
import logging
import os
import pwd
import socket
import stat
import sys

from oslo_config import cfg
from oslo_privsep import comm, daemon

from . import context, kernel
from .errors import sentence

LOG = logging.getLogger(f"{__package__}.daemon")  # as __main__ too


def main() -> int:
    """Serve the USER of the command line; return the exit code."""
    if len(sys.argv) == 1 or not stat.S_ISSOCK(os.fstat(0).st_mode):
        return _failed("systemd runs it: start ovn-metadata-privsep.socket")
    user, *files = sys.argv[1:]
    with socket.socket(fileno=os.dup(0)) as connection:
        peer = kernel.peer_uid(connection)
        try:
            allowed = pwd.getpwnam(user).pw_uid == peer
        except KeyError:
            allowed = False
        if not allowed:
            return _failed(f"refused: uid {peer} is not {user}")
        # rootfiles.caller_uid reads it; sudo sets it too.
        os.environ["SUDO_UID"] = str(peer)
        return _serve(comm.ServerChannel(connection), files)


def _serve(channel: comm.ServerChannel, files: list[str]) -> int:
    """Serve the calls that arrive on CHANNEL; log to its other end."""
    daemon.replace_logging(daemon.PrivsepLogHandler(channel))
    logging.getLogger().setLevel(logging.INFO)
    options = [word for file in files for word in ("--config-file", file)]
    try:
        cfg.CONF(options, "ovn-metadata-agent", default_config_files=[])
        daemon.Daemon(channel, context.default).run()
    except ConnectionError:
        return 0  # the agent ended before it had read everything
    except (cfg.Error, daemon.FailedToDropPrivileges, OSError) as error:
        why = sentence(error)
        if isinstance(error, PermissionError):
            needed = "CAP_CHOWN, CAP_NET_ADMIN, CAP_SYS_ADMIN"
            why = f"root lacks one of {needed} here; allow them"
        with contextlib.suppress(OSError):
            LOG.critical("the privileged daemon does not start: %s", why)
        return _failed(why)
    return 0


def _failed(reason: str) -> int:
    print(f"ovn-metadata-privsep: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
