"""Look for all that is ours on this host, served or left over."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...privsep import decommission, network
from .. import folders, names
from ..config.settings import Settings
from ..haproxy.leftovers import entries, haproxy_files, network_folders
from .findings import Item

FLEET_KINDS = ("program", "orphan haproxy", "supervisord", "fleet's folder")


class Inventory:
    """What is here but for the databases, at one moment."""

    def __init__(self, settings: Settings, fleet_uid: int) -> None:
        self._settings = settings
        self._places = folders.places(settings)
        self._uids = (fleet_uid, os.geteuid())
        self._fleet: Mapping[str, Any] = decommission.inventory(
            str(settings.state_path)
        )
        self._kernels = network.list_networks()
        self._files = list(haproxy_files(self._places, self._uids))
        self._folders = list(network_folders(self._places))

    def networks(self) -> set[str]:
        """Return the networks there is anything of."""
        found = {*self._kernels, *self._fleet["programs"]}
        found |= {*self._fleet["orphans"]}
        found |= {of for of, _ in (*self._files, *self._folders)}
        return found - {names.GATEWAY}

    def fleet(self) -> tuple[list[Item], list[str]]:
        """Return what there is of the fleet, and what is left of it."""
        fleet = self._fleet
        items = [
            Item("program", names.program_name(of), of)
            for of in fleet["programs"]
        ]
        items += [
            Item("orphan haproxy", f"pid {pid}", of)
            for of, pids in sorted(fleet["orphans"].items())
            for pid in pids
        ]
        pid, folder = fleet["supervisord"], fleet["folder"]
        if pid and not fleet["detached"]:
            return items, [
                f"supervisord pid {pid}: ovn-metadata-fleet runs it; stop that"
            ]
        items += [Item("supervisord", f"pid {pid}")] if pid else []
        items += [Item("fleet's folder", folder)] if folder else []
        return items, []

    def kernel(self, networks: Collection[str]) -> list[Item]:
        """Return the namespaces and veths of NETWORKS."""
        items = []
        links = {name for _, name in socket.if_nameindex()}
        for of in sorted(networks):
            namespace = names.namespace_name(of)
            if os.path.lexists(f"{names.NAMESPACE_FOLDER}/{namespace}"):
                items.append(Item("namespace", namespace, of))
            items += [
                Item("veth", name, of)
                for name in (names.outer_veth(of), names.inner_veth(of))
                if name in links
            ]
        return items

    def files(self, networks: Collection[str]) -> tuple[list[Item], list[str]]:
        """Return the files and folders of ours, what is in them first.

        Also the folders that something else keeps here, in words.
        """
        places = self._places
        mine = {path: of for of, path in self._files}
        for of, folder in self._folders:
            mine |= {
                path: of
                for path in entries(folder)
                if path.is_symlink() or not path.is_dir()
            }
        for of in (*networks, names.GATEWAY):
            if of in networks and os.path.lexists(places.pid_link(of)):
                mine[places.pid_link(of)] = of  # Neutron's agent left it
        mine |= dict.fromkeys(_others(self._settings), "")
        items = [Item("file", str(path), of) for path, of in mine.items()]
        left = []
        removed = set(mine)
        for folder in (
            *(folder for _, folder in self._folders),
            places.run_folder,
            places.socket_folder,
            places.config_folder,
        ):
            if not folder.is_dir():
                continue
            kept = len({*entries(folder)} - removed)
            if kept:
                left.append(f"folder {folder}: holds other things, {kept}")
                continue
            removed.add(folder)
            items.append(Item("folder", str(folder)))
        return items, left


def _others(settings: Settings) -> Iterator[Path]:
    """Yield the files that belong to no haproxy's configuration."""
    places = folders.places(settings)
    public = settings.proxy_socket
    for folder, patterns in (
        (places.socket_folder, ("metadata_proxy-*",)),
        (public.parent, (f".{public.name}.tmp",)),
    ):
        for pattern in patterns:
            yield from sorted(folder.glob(pattern))
    for path in (public, settings.status_socket):
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            ours = stat.S_ISLNK(mode) and (
                path.readlink().parent == places.socket_folder
            )
            if ours or stat.S_ISSOCK(mode):  # Neutron's agent makes a socket
                yield path
