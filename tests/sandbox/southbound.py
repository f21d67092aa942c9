"""The Southbound database: one server, or a cluster of three (raft)."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from .daemons import CommandError, Daemon, run
from .waiting import wait_for

DATABASE = "OVN_Southbound"
CLIENT_PORT = 6642
_MEMBER_PORT = 6650
_RAFT_PORT = 6660
_SCHEMA = Path("/usr/share/ovn/ovn-sb.ovsschema")


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A server of the Southbound database."""

    name: str
    database: Path
    socket: Path
    control: Path
    port: int
    raft: str  # its address for the others

    @property
    def remote(self) -> str:
        """How a client reaches it."""
        return f"tcp:127.0.0.1:{self.port}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return ovsdb-server's, as ovn-ctl(8) has them."""
        table = f"db:{DATABASE},SSL"
        return (
            f"--remote=punix:{self.socket}",
            f"--remote=ptcp:{self.port}:127.0.0.1",
            f"--remote=db:{DATABASE},SB_Global,connections",
            f"--private-key={table},private_key",
            f"--certificate={table},certificate",
            f"--ca-cert={table},ca_cert",
            f"--unixctl={self.control}",
            str(self.database),
        )


def _member(folder: Path, run_folder: Path, number: int) -> Member:
    """Return server NUMBER of a cluster; 0 for one that is alone."""
    suffix = str(number or "")
    return Member(
        name=f"sb{suffix}",
        database=folder / f"sb{suffix}.db",
        socket=run_folder / f"ovnsb_db{suffix}.sock",
        control=run_folder / f"sb{suffix}.ctl",
        port=_MEMBER_PORT + number if number else CLIENT_PORT,
        raft=f"tcp:127.0.0.1:{_RAFT_PORT + number}",
    )


class Southbound:
    """COUNT servers, whose daemons Ovn has under their names."""

    def __init__(self, folder: Path, run_folder: Path, *, count: int) -> None:
        numbers = range(1, count + 1) if count > 1 else (0,)
        self.members = [_member(folder, run_folder, each) for each in numbers]

    @property
    def remote(self) -> str:
        """What clients are told: all servers."""
        return ",".join(member.remote for member in self.members)

    def create(self, *, clustered: bool = False) -> None:
        """Make the servers' files anew: empty, and not of one mind yet.

        CLUSTERED makes one that is alone the only member of a cluster.
        """
        first, *others = self.members
        for member in self.members:
            member.database.unlink(missing_ok=True)
        file, schema = str(first.database), str(_SCHEMA)
        if not others and not clustered:
            run("ovsdb-tool", "create", file, schema)
            return
        run("ovsdb-tool", "create-cluster", file, schema, first.raft)
        for member in others:
            new = ("join-cluster", str(member.database), DATABASE)
            run("ovsdb-tool", *new, member.raft, first.raft)

    def wait_joined(self) -> None:
        """Wait until every server takes part (they all run)."""
        if len(self.members) == 1:
            return
        wait_for(
            lambda: all(
                "Status: cluster member" in self._status(member)
                for member in self.members
            ),
            timeout_s=60,
            what="a cluster of all servers",
        )

    def leader(self) -> Member:
        """Return the server that leads, once there is one."""
        return wait_for(self._leaders, timeout_s=60, what="a leader")[0]

    def followed_by(self, pid: int) -> Member | None:
        """Return the server that the process PID is connected to."""
        sockets = run("ss", "-tnHp", "state", "established")
        for line in sockets.splitlines():
            found = re.search(r"127\.0\.0\.1:(\d+) +users:.*pid=(\d+),", line)
            if found and int(found.group(2)) == pid:
                for member in self.members:
                    if member.port == int(found.group(1)):
                        return member
        return None

    def _leaders(self) -> list[Member]:
        return [
            member
            for member in self.members
            if "Role: leader" in self._status(member)
        ]

    @staticmethod
    def _status(member: Member) -> str:
        """Return what MEMBER says of its cluster; "" if it does not run."""
        ask = ("cluster/status", DATABASE)
        with contextlib.suppress(CommandError):
            return run("ovs-appctl", "-t", str(member.control), *ask)
        return ""


def daemons(
    southbound: Southbound, make: Callable[..., Daemon]
) -> list[Daemon]:
    """Return the servers' daemons, as MAKE makes Ovn's."""
    return [
        make(
            member.name,
            "ovsdb-server",
            *member.arguments,
            ready=member.socket,
        )
        for member in southbound.members
    ]
