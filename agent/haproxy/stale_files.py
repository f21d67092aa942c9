"""The haproxies' files that are there, by the networks they are of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from ...privsep import names
from .places import Places


def haproxy_files(
    places: Places, uids: Collection[int]
) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each file of ours.

    But for those in its own folders. Neutron's other agents have PID files
    of the same names in the same folder: of those only what one of UIDS owns
    is ours.
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
    """Yield the network (or "gateway") and the path of each folder of one."""
    old = (places.old_folder, places.old_folder / "run")
    for parent in (*places.network_parents, *old):
        for path in entries(parent):
            ours = is_ours(path) and names.network_of_file(path.name) is None
            if ours and path.is_dir() and not path.is_symlink():
                yield path.name, path


def is_ours(path: Path) -> bool:
    """Tell whether PATH has a name of a network's file or folder."""
    name = path.name
    folder = name == names.GATEWAY or names.is_network(name)
    return folder or names.network_of_file(name) is not None


def remove_old(places: Places, network: str) -> None:
    """Remove what is below state_path of NETWORK (or the gateway).

    Of Neutron's agent, or of a version of this one that had the maps with
    their signatures there. What can't be removed is seen by `haproxy_files`
    and `network_folders`.
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
        with contextlib.suppress(OSError):  # there is more in it
            folder.rmdir()


def entries(folder: Path) -> list[Path]:
    """Return what is in FOLDER, sorted; nothing where that can't be seen."""
    # What is closed to us is told where it is to be written.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        return sorted(folder.iterdir())
    return []
