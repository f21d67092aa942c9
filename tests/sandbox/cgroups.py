"""Limits of the kernel's own for a process: a cgroup, v1 or v2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .daemons import CommandError, run
from .waiting import wait_for

_MOUNT = Path("/run/cgroup")
# Controller -> the limit's file in v1, and in v2, which is that of today.
_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
}


class NoLimitError(Exception):
    """This machine does not let us limit that."""


@contextlib.contextmanager
def limited_memory(pid: int, size_bytes: int) -> Iterator[None]:
    """Let PID take no more than SIZE_BYTES in addition to what it has.

    Raises NoLimitError where that can't be done.
    """
    with _group(pid, "memory") as limit:
        limit.write_text(str(size_bytes))
        yield


@contextlib.contextmanager
def no_process(pid: int) -> Iterator[None]:
    """Let PID start no process; raise as `limited_memory`."""
    with _group(pid, "pids") as limit:
        limit.write_text("1")
        yield


@contextlib.contextmanager
def _group(pid: int, controller: str) -> Iterator[Path]:
    """Give the file with the limit of a group with PID alone."""
    _MOUNT.mkdir(exist_ok=True)
    old, new = _FILES[controller]
    for kind, options, name in (
        ("cgroup", ("-o", controller), old),
        ("cgroup2", (), new),
    ):
        try:
            run("mount", "-t", kind, *options, "none", str(_MOUNT))
        except CommandError:
            continue
        folder = _MOUNT / f"ovn-metadata-sandbox-{pid}"
        try:
            folder.mkdir()
            try:
                if (folder / name).exists():
                    procs = folder / "cgroup.procs"
                    procs.write_text(str(pid))
                    try:
                        yield folder / name
                    finally:
                        _leave(procs)
                    return
            finally:
                wait_for(
                    lambda f=folder: f.rmdir() is None,  # type: ignore[misc]
                    timeout_s=60,
                    what="end of a group",
                )
        except PermissionError:
            continue
        finally:
            run("umount", str(_MOUNT))
    raise NoLimitError(f"no controller of {controller} that we may use")


def _leave(procs: Path) -> None:
    """Have what is left in the group of PROCS go to the first of all."""
    for pid in procs.read_text().split():
        (_MOUNT / "cgroup.procs").write_text(pid)
