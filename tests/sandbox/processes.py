"""What runs of the agent here, as /proc shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import re
from collections import Counter
from pathlib import Path

from .daemons import run

# By the name of the program or of the script that Python runs. The agent
# may call itself by Neutron's name; deployers' probes look for that one.
_KINDS = {
    "ovn-metadata-agent": "agent",
    "neutron-ovn-metadata-agent": "agent",
    "ovn-metadata-privsep": "privsep",
    "ovn_metadata.privsep.daemon": "privsep",  # python -I -m
    "privsep-helper": "privsep",  # by sudo
    "supervisord": "supervisord",
    "supervisor.supervisord": "supervisord",  # python -I -m
    "haproxy": "haproxy",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A process of ours, as /proc shows it."""

    kind: str  # agent, privsep, supervisord or haproxy
    pid: int
    parent: int
    uid: int
    cap_eff: int
    cap_prm: int
    cap_bnd: int
    no_new_privs: bool
    cmdline: tuple[str, ...]

    @property
    def user(self) -> str:
        """Whom it runs as: to look up each haproxy's would take longest."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def pss_kib(self) -> int:
        """Its memory now; see `pss_kib`."""
        return pss_kib(self.pid)


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def limit_descriptors(pid: int, number: int) -> None:
    """Have the process PID open no descriptor above NUMBER."""
    fields = _fields(Path(f"/proc/{pid}/status"))
    uid, gid = fields["Uid"].split()[0], fields["Gid"].split()[0]
    become = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    run(*become, "prlimit", f"--pid={pid}", f"--nofile={number}:")


def processes(*kinds: str, everywhere: bool = False) -> list[Process]:
    """Return the agent's processes here, zombies left out.

    So is a fork that has not begun its own program yet: it looks like its
    parent. Those of a second hypervisor, whose PIDs are visible here, are left
    out; EVERYWHERE has them too, and those in containers.
    """
    names = (entry.name for entry in Path("/proc").iterdir())
    pids = sorted(int(name) for name in names if name.isdigit())
    read = (_read(pid, kinds) for pid in pids)
    here = _namespace("self")
    found = [
        each
        for each in read
        if each and (everywhere or _namespace(each.pid) == here)
    ]
    known = {(process.pid, process.cmdline) for process in found}
    return [p for p in found if (p.parent, p.cmdline) not in known]


def _namespace(pid: int | str) -> Path | None:
    """Return the PID namespace of PID; None: it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").readlink()
    return None


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors of each kind the process PID has open."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[re.sub(r"\d+", "N", str(entry.readlink()))] += 1
    return found


def pss_kib(pid: int) -> int:
    """Return the memory of process PID, with its share of what others have.

    0: it has none (any more). The kernel walks all its pages for it.
    """
    try:
        memory = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended since somebody listed it, or is the kernel's own
    return int(memory["Pss"].split()[0])


def rss_kib(pid: int) -> int:
    """Return the resident memory of the process PID."""
    fields = _fields(Path(f"/proc/{pid}/status"))
    return int(fields["VmRSS"].split()[0])


def sole(kind: str) -> Process:
    """Return the one process of KIND; LookupError: none, or several."""
    found = processes(kind)
    if len(found) != 1:
        raise LookupError(f"{kind}: {found}")
    return found[0]


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that process PID has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_of(pid: int) -> list[dict[str, str]]:
    """Return /proc/PID/status of every thread."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(_fields(task / "status"))
    return found


def uids(status: dict[str, str]) -> set[int]:
    """Return the user ids in STATUS: real, effective, saved, of files."""
    return {int(word) for word in status["Uid"].split()}


def caps(status: dict[str, str], *names: str) -> set[int]:
    """Return the sets of capabilities NAMES ("Eff", ...) in STATUS."""
    return {int(status[f"Cap{name}"], 16) for name in names}


def kind_of(cmdline: tuple[str, ...]) -> str | None:
    """Return which part of ours has CMDLINE, if any."""
    words = [word for argument in cmdline[:4] for word in argument.split()[:2]]
    for word in words:
        name = word.rstrip("/").rpartition("/")[2].rstrip(":")
        if name in _KINDS:
            return _KINDS[name]
        interpreter = name.startswith("python") or word.startswith("-")
        if not interpreter:
            return None
    return None


def _read(pid: int, kinds: tuple[str, ...]) -> Process | None:
    """Return the process PID, if it is one of KINDS; () is any of ours."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        cmdline = tuple(raw.decode(errors="replace").strip("\0").split("\0"))
        kind = kind_of(cmdline)
        if kind is None or (kinds and kind not in kinds):
            return None
        if kind == "haproxy" and "-c" in cmdline:
            return None  # it looks at a configuration, and ends
        status = _fields(Path(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended while we looked
    if status["State"].startswith("Z"):
        return None
    return Process(
        kind=kind,
        pid=pid,
        parent=int(status["PPid"]),
        uid=int(status["Uid"].split()[1]),
        cap_eff=int(status["CapEff"], 16),
        cap_prm=int(status["CapPrm"], 16),
        cap_bnd=int(status["CapBnd"], 16),
        no_new_privs=status["NoNewPrivs"] == "1",
        cmdline=cmdline,
    )


def _fields(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
