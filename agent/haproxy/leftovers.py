"""The haproxies' files that are there, by the networks they are of."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from .. import names
from .places import Places


def haproxy_files(
    places: Places, uids: Collection[int]
) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each file of ours.

    But for those in its own folders. Neutron's other agents have PID files
    of the same names in the same folder: of those only what one of UIDS owns
    is ours.
    """
    for path in entries(places.config_folder):
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
    for parent in (places.config_folder, places.run_folder):
        for path in entries(parent):
            ours = is_ours(path) and names.network_of_file(path.name) is None
            if ours and path.is_dir() and not path.is_symlink():
                yield path.name, path


def is_ours(path: Path) -> bool:
    """Tell whether PATH has a name of a network's file or folder."""
    name = path.name
    folder = name == names.GATEWAY or names.is_network(name)
    return folder or names.network_of_file(name) is not None


def entries(folder: Path) -> list[Path]:
    """Return what is in FOLDER, sorted; nothing where that can't be seen."""
    # What is closed to us is told where it is to be written.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        return sorted(folder.iterdir())
    return []
