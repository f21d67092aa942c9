"""The folders that the agent shares with a haproxy, as they should be.

Their group is the daemon's to give; here they are made and looked at.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ...privsep.places import Folder
from ...privsep.settings import FleetSettings
from .. import names
from .places import Places


def make_folders(places: Places, fleet: FleetSettings, network: str) -> bool:
    """Have the folders of NETWORK (or gateway); tell if all are shared.

    If not, they are to be before there is anything in them: what is made
    there has their group.
    """
    found = [_make(each, fleet, network) for each in places.folders(network)]
    return all(found)


def _make(folder: Folder, fleet: FleetSettings, network: str) -> bool:
    try:
        with contextlib.suppress(FileExistsError):
            folder.path.mkdir(mode=0o700)
        entry = folder.path.lstat()
    except PermissionError:  # the one above was closed by hand
        return False
    return (entry.st_uid, entry.st_gid, stat.S_IMODE(entry.st_mode)) == (
        os.geteuid(),
        fleet.gid_of(folder, network),
        folder.mode,
    )


def clear_foreign_files(
    places: Places, fleet: FleetSettings, network: str
) -> None:
    """Remove others' files where the haproxy of NETWORK makes its own.

    It could not replace them: its user was another one before.
    """
    folders = [places.work_folder(network)]
    if network == names.GATEWAY:
        folders.append(places.socket_folder)
    uid = fleet.user_of(network).uid
    for folder in folders:
        # One by one: a haproxy that was broken into makes as many as it can.
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        Path(entry).unlink()
