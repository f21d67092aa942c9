"""Find the haproxies' files, each with its network."""

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from ...privsep import names
from .places import Places


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
            network = names.network_of_file(path.name)
            if network is not None:
                yield network, path
    for path in entries(places.pids_folder):
        network = names.network_of_file(path.name)
        if network is None or ".pid.haproxy" not in path.name:
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_uid in uids:
                yield network, path


def network_folders(places: Places) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each of its folders."""
    old = (places.old_folder, places.old_folder / "run")
    for parent in (*places.network_parents, *old):
        for path in entries(parent):
            ours = is_ours(path) and names.network_of_file(path.name) is None
            if ours and path.is_dir() and not path.is_symlink():
                yield path.name, path


def is_ours(path: Path) -> bool:
    """Return whether PATH is named like a network's file or folder."""
    name = path.name
    folder = name == names.GATEWAY or names.is_network(name)
    return folder or names.network_of_file(name) is not None


def remove_old(places: Places, network: str) -> None:
    """Remove the files of NETWORK (or the gateway) below state_path.

    Neutron's agent has left them, or a version of this agent that had its
    maps, with signatures, there. `haproxy_files` and `network_folders` find
    what can't be removed.
    """
    old = places.old_folder
    if not old.is_dir():
        return
    for path in entries(old):
        if names.network_of_file(path.name) == network:
            with contextlib.suppress(OSError):
                path.unlink()
    shutil.rmtree(old / network, ignore_errors=True)
    shutil.rmtree(old / "run" / network, ignore_errors=True)
    if network == names.GATEWAY:
        shutil.rmtree(places.old_socket_folder, ignore_errors=True)
    for folder in places.old_folders:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def entries(folder: Path) -> list[Path]:
    """Return what is in FOLDER, sorted; nothing if it can't be listed."""
    # A folder that this user may not list is reported by the first write.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        return sorted(folder.iterdir())
    return []
