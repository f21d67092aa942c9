"""Find the haproxies' files, each with its network."""

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from ...privsep import names
from .places import Places

# Temporary files match too, if one was left: ".X.conf.tmp" is ours, "X.new" is
# an earlier version's, "X.sock.7.tmp" and "X.sock.7.bak" are haproxy's.
_FILE = re.compile(
    r"\.?([^.]+)\.(?:conf|map|new|sock|pid\.haproxy)"
    r"(?:\.tmp|\.[0-9]+\.(?:tmp|bak))?"
)


def network_of_file(name: str) -> str | None:
    """Return the network (or gateway) whose file NAME is, if it is ours."""
    match = _FILE.fullmatch(name)
    return match[1] if match and names.is_program(match[1]) else None


def haproxy_files(
    places: Places, uids: Collection[int]
) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each of its files.

    Files in a network's own folders are left out. Neutron's other agents
    have PID files with the same names in the same folder: only those that
    one of UIDS owns are the agent's.
    """
    for folder in (places.config_folder, places.old_folder):
        for path in entries(folder):
            network = network_of_file(path.name)
            if network is not None:
                yield network, path
    for path in entries(places.pids_folder):
        network = network_of_file(path.name)
        if network is None or ".pid.haproxy" not in path.name:
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_uid in uids:
                yield network, path


def network_folders(places: Places) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each of its folders."""
    for parent in places.network_parents:
        for path in entries(parent):
            is_ours = names.is_program(path.name)
            if is_ours and path.is_dir() and not path.is_symlink():
                yield path.name, path


def remove_old(places: Places, network: str) -> None:
    """Remove what Neutron's agent has left of NETWORK below state_path.

    `haproxy_files` finds what can't be removed.
    """
    for path in entries(places.old_folder):
        if network_of_file(path.name) == network:
            with contextlib.suppress(OSError):
                path.unlink()
    with contextlib.suppress(OSError):  # it is not empty, or not there
        places.old_folder.rmdir()


def entries(folder: Path) -> list[Path]:
    """Return what is in FOLDER, sorted; nothing if it can't be listed."""
    # A folder that this user may not list is reported by the first write.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        return sorted(folder.iterdir())
    return []
