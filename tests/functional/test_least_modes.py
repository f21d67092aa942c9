"""Nothing of root's depends on what others can write; no mode is wide."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import host as ours
from sandbox import wait_for
from sandbox.case import Host, wait_served

FLEET = Path("/run/ovn-metadata-fleet")
STRACE = (
    *("strace", "-D", "-f", "-y", "-qq", "-s", "4096", "-e", "signal=none"),
    *("-e", "trace=open,openat,execve,/^set(re|res)?uid$,/clone|fork"),
)

# --------------------------------------------------- what root opens, runs


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """A file that root opened or ran, or tried to."""

    call: str
    path: Path
    flags: str
    pid: int


class Trace:
    """What strace wrote: the uses of files by processes of root's."""

    _LINE = re.compile(r"(\d+) +(.*)")
    _RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
    _CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(<[^>]*>)?.*")
    _PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
    _HERE = re.compile(r"AT_FDCWD<([^>]*)>|\d+<([^>]*)>")

    def __init__(self, text: str) -> None:
        self._calls = [*self._read(text)]
        self._uids: dict[int, int] = {}
        self.uses = [*self._of_root()]

    def _read(self, text: str) -> Iterator[tuple[int, re.Match[str]]]:
        """Yield (pid, call) in the order of their ends."""
        begun: dict[int, str] = {}
        for line in text.splitlines():
            match = self._LINE.match(line)
            if match is None:
                continue
            pid, said = int(match[1]), match[2]
            if said.endswith("<unfinished ...>"):
                begun[pid] = said.removesuffix("<unfinished ...>")
                continue
            if resumed := self._RESUMED.match(said):
                said = begun.pop(pid, "") + resumed[1]
            if call := self._CALL.fullmatch(said):
                yield pid, call

    def _of_root(self) -> Iterator[Use]:
        parents = {
            int(call[3]): pid
            for pid, call in self._calls
            if "clone" in call[1] or "fork" in call[1]
        }
        uids: dict[int, int] = {}
        for pid, call in self._calls:
            if pid not in uids:
                # The first one of all is ours, root's.
                uids[pid] = uids.get(parents.get(pid, 0), 0)
            name, arguments, result = call[1], call[2], int(call[3])
            if name.startswith("set") and result == 0:
                # The effective one; setuid has no other.
                words = arguments.split(", ")
                number = int(words[1] if len(words) > 1 else words[0])
                uids[pid] = uids[pid] if number == -1 else number
            if name in ("open", "openat", "execve") and uids[pid] == 0:
                yield self._use(pid, call)
            if (
                name == "execve"
                and result == 0
                and '"/usr/bin/sudo"' in (arguments)
            ):
                uids[pid] = 0  # it has the set-user-ID bit

    def _use(self, pid: int, call: re.Match[str]) -> Use:
        quoted = self._PATH.search(call[2])
        assert quoted is not None, call[0]
        here = self._HERE.match(call[2])
        folder = next((g for g in here.groups() if g), "/") if here else "/"
        path = Path(folder, quoted[1])
        return Use(call[1], path, call[2][quoted.end() :], pid)


def writers(path: Path) -> list[str]:
    """Return the places on the way to PATH that a user of ours can change.

    A link's target counts as well. What is not there could be made, if the
    folder it would be in can be written.
    """
    found = []
    for name in {Path(os.path.normpath(path)), Path(os.path.realpath(path))}:
        below: os.stat_result | None = None
        for place in (name, *name.parents):
            try:
                entry = place.lstat()
            except OSError:
                continue
            if _can_write(entry) and not _is_safe_in(entry, below):
                found.append(f"{place} ({stat.filemode(entry.st_mode)})")
            below = entry
    return found


def _can_write(entry: os.stat_result) -> bool:
    users = [ours.ids(u) for u in (ours.SERVICE_USER, ours.FLEET_USER)]
    return not stat.S_ISLNK(entry.st_mode) and (
        entry.st_uid in {uid for uid, _ in users}
        or entry.st_uid >= ours.FIRST_NETWORK_ID
        or bool(entry.st_mode & stat.S_IWOTH)
        or (entry.st_mode & stat.S_IWGRP and entry.st_gid != 0)
    )


def _is_safe_in(entry: os.stat_result, below: os.stat_result | None) -> bool:
    """Tell whether BELOW, in a sticky folder, is safe from others there."""
    sticky = entry.st_mode & stat.S_ISVTX and entry.st_uid == 0
    return bool(sticky and below and below.st_uid == 0)


def decides(use: Use) -> bool:
    """Tell whether what root reads of USE could make it do something.

    With O_PATH it looks at what it shares and reads nothing of it; with
    O_EXCL the file is new and its own.
    """
    special = ("/proc/", "/sys/", "/dev/")
    harmless = ("O_PATH", "O_WRONLY", "O_EXCL")
    return not str(use.path).startswith(special) and not any(
        flag in use.flags for flag in harmless
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Traced:
    """A network that is served, and how that came to be."""

    network: str
    trace: str


@pytest.fixture(scope="module")
def traced(host: Host) -> Traced:
    """Start an agent under strace, and serve a network."""
    box = host.sandbox()
    agent = box.agent
    trace = box.folder / "strace"
    agent._daemon.command = (*STRACE, "-o", str(trace), *agent.command())
    agent.start()
    agent.wait_ready(timeout_s=180)
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance, timeout_s=180)
    return Traced(network.id, trace.read_text())


def test_root_reads_and_runs_nothing_that_others_can_write(traced: Traced):
    """From sudo to the haproxies' start, by each file that root opens."""
    uses = Trace(traced.trace).uses
    ran = {use.path.name for use in uses if use.call == "execve"}
    assert {"privsep-helper", "nsenter", "setpriv"} <= ran
    read = {use.path for use in uses}
    assert Path("/etc/ovn-metadata-agent/privileged.conf") in read
    assert FLEET / "programs" / f"{traced.network}.ini" in read
    bad = {
        f"{use.call} {use.path} {use.flags}: {found}"
        for use in uses
        if decides(use) and (found := writers(use.path))
    }
    assert writers(ours.HOME / "a" / "b"), "this would not show anything"
    assert not bad, "\n".join(sorted(bad))


# ---------------------------------------------------------------- modes

# All of ours: type and mode as ls shows them, owner, group, path. NET is a
# network's id; `own` is its haproxy, `all` every haproxy, as user or group.
# Wide modes are of what lies in a narrow folder, or of the operator's.
TABLE = """
drwxr-xr-x agent   agent    STATE
srw-rw---- agent   agent    STATE/ovn-metadata-agent.sock
srw-rw---- agent   agent    STATE/ovn-metadata-agent-metrics.sock
lrwxrwxrwx agent   agent    STATE/metadata_proxy
drwxr-xr-x agent   agent    STATE/external
drwxr-xr-x agent   agent    STATE/external/pids
lrwxrwxrwx agent   agent    STATE/external/pids/NET.pid.haproxy
lrwxrwxrwx agent   agent    STATE/external/pids/gateway.pid.haproxy
drwx--x--x root    root     FLEET
drwxr-s--- agent   all      FLEET/config
-rw-r----- agent   all      FLEET/config/NET.conf
-rw-r----- agent   all      FLEET/config/gateway.conf
drwxr-xr-x root    root     FLEET/read
drwxr-s--- agent   own      FLEET/read/NET
-rw-r----- agent   own      FLEET/read/NET/NET.map
drwxr-s--- agent   gateway  FLEET/read/gateway
-rw-r----- agent   gateway  FLEET/read/gateway/gateway.map
drwxr-xr-x root    root     FLEET/work
drwxrws--- agent   own      FLEET/work/NET
-rw-r--r-- root    root     FLEET/work/NET.pid
srw------- own     own      FLEET/work/NET/again.sock
srw-rw-rw- own     own      FLEET/work/NET/stats.sock
drwxrws--- agent   gateway  FLEET/work/gateway
-rw-r--r-- root    root     FLEET/work/gateway.pid
srw-rw-rw- gateway gateway  FLEET/work/gateway/stats.sock
drwxrws--x agent   gateway  FLEET/socket
srw-rw-r-- gateway agent    FLEET/socket/metadata_proxy
-rw------- agent   root     FLEET/agent.lock
srw-rw---- root    all      FLEET/gateway.sock
-rw------- root    root     FLEET/start.lock
-rw------- root    root     FLEET/supervisord.conf
-rw-r--r-- root    root     FLEET/supervisord.pid
srwx------ root    root     FLEET/supervisord.sock
drwx------ root    root     FLEET/programs
-rw------- root    root     FLEET/programs/NET.ini
-rw------- root    root     FLEET/programs/gateway.ini
drwx------ root    root     FLEET/log
-rw-r--r-- root    root     FLEET/log/NET.log
-rw-r--r-- root    root     FLEET/log/gateway.log
-rw------- root    root     FLEET/log/supervisord.log
drwxr-xr-x agent   agent    LOG
-rw-r--r-- agent   agent    LOG/ovn-metadata-agent.log
drwxr-xr-x root    root     ETC
-rw-r--r-- root    root     ETC/privileged.conf
-rw-r--r-- root    root     ETC/rootwrap.conf
drwxr-xr-x root    root     ETC/rootwrap.d
-rw-r--r-- root    root     ETC/rootwrap.d/metadata.filters
"""
ROOTS = {
    "STATE": ours.HOME,
    "FLEET": FLEET,
    "LOG": ours.LOG_FOLDER,
    "ETC": ours.PRIVILEGE_FOLDER,
}


def lines_of(network: str) -> Iterator[str]:
    """Yield a line like TABLE's for each file of ours that is there."""
    uids, gids = (
        {
            0: "root",
            ours.ids(ours.SERVICE_USER)[index]: "agent",
            ours.ids(ours.FLEET_USER)[index]: "gateway",
            ours.ids_of(network)[index]: "own",
            ours.FIRST_NETWORK_ID: "all",
        }
        for index in (0, 1)
    )
    for name, root in ROOTS.items():
        for path in (root, *root.rglob("*")):
            entry = path.lstat()
            place = str(path).replace(str(root), name, 1)
            yield " ".join(
                (
                    stat.filemode(entry.st_mode),
                    uids.get(entry.st_uid, str(entry.st_uid)),
                    gids.get(entry.st_gid, str(entry.st_gid)),
                    place.replace(network, "NET"),
                )
            )


def test_all_files_have_the_least_mode(traced: Traced):
    """None that is not in the table, and all that are."""
    wanted = [" ".join(line.split()) for line in TABLE.split("\n") if line]
    wrong: list[list[str]] = []

    def is_so() -> bool:
        found = [*lines_of(traced.network)]
        unknown = [
            line
            for line in found
            if not any(fnmatch.fnmatchcase(line, each) for each in wanted)
        ]
        missing = [each for each in wanted if not fnmatch.filter(found, each)]
        wrong[:] = unknown, missing
        return wrong == [[], []]

    # One that is replaced just now has another one beside it.
    with contextlib.suppress(TimeoutError):
        wait_for(is_so, timeout_s=60, what="the files")
    assert wrong == [[], []]
