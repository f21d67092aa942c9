"""A memory limit of the kernel's own for a process: a cgroup, v1 or v2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .daemons import CommandError, run
from .waiting import wait_for

_MOUNT = Path("/run/cgroup-memory")
# Kind, mount options, the limit's file; the second is that of today.
_VERSIONS = (
    ("cgroup", ("-o", "memory"), "memory.limit_in_bytes"),
    ("cgroup2", (), "memory.max"),
)


class NoLimitError(Exception):
    """This machine does not let us limit memory."""


@contextlib.contextmanager
def limited(pid: int, size_bytes: int) -> Iterator[None]:
    """Let PID take no more than SIZE_BYTES in addition to what it has.

    Raises NoLimitError where that can't be done.
    """
    with _group(pid) as limit:
        limit.write_text(str(size_bytes))
        yield


@contextlib.contextmanager
def _group(pid: int) -> Iterator[Path]:
    """Give the file with the limit of a group with PID alone."""
    _MOUNT.mkdir(exist_ok=True)
    for kind, options, name in _VERSIONS:
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
                    timeout_s=20,
                    what="end of a memory group",
                )
        except PermissionError:
            continue
        finally:
            run("umount", str(_MOUNT))
    raise NoLimitError("no memory controller that we may use")


def _leave(procs: Path) -> None:
    """Have what is left in the group of PROCS go to the first of all."""
    for pid in procs.read_text().split():
        (_MOUNT / "cgroup.procs").write_text(pid)
