"""The haproxies' files that are there, by the networks in their names."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from .. import names
from .render import Places


def haproxy_files(
    places: Places, uids: Collection[int]
) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each file of ours.

    Neutron's other agents have PID files of the same names in the same
    folder: of those only what one of UIDS owns is ours.
    """
    for path in _entries(places.config_folder, places.run_folder):
        network = names.network_of_file(path.name)
        if network is not None:
            yield network, path
    for path in _entries(places.pids_folder):
        network = names.network_of_file(path.name)
        if network is None or path != places.pid(network):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_uid in uids:
                yield network, path


def _entries(*folders: Path) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            found += sorted(folder.iterdir())
    return found
