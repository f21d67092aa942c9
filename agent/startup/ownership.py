"""Give the service user what an agent that ran as root has left.

This runs as root in folders in which that user can make any file. So it
changes only what root owns and what has one of our names, and it follows a
link only where root alone can have made it. The service user makes everything
else by itself.
"""

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ...privsep.kernel import closing
from ...privsep.places import OLD_FOLDER
from ..errors import StartError

# The folders that a metadata agent, Neutron's or this one, makes in
# state_path, and in those.
_IN_STATE_PATH = frozenset({OLD_FOLDER, "external"})
_BELOW = frozenset({"pids"})
# No link is followed.
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_MOST_LINKS = 40  # path_resolution(7)


def hand_over_state_path(
    folder: Path, user: pwd.struct_passwd, *, make: bool
) -> None:
    """Make USER the owner of state_path FOLDER and an agent's folders in it.

    With MAKE, FOLDER is made if it is missing. Raises StartError.
    """
    try:
        with (
            _reached(folder, make=make) as place,
            closing(os.open(".", _FOLDER, dir_fd=place)) as descriptor,
        ):
            found = os.listdir(descriptor)  # noqa: PTH208 # of a descriptor
            # A folder that has nothing of an agent's was named by mistake.
            if not found or {*found} & _IN_STATE_PATH:
                _hand_over(descriptor, user, _IN_STATE_PATH)
    except (FileNotFoundError, PermissionError):
        return  # as below
    except OSError as error:
        # A link on the way may be the user's: leave everything as it is.
        if os.path.isdir(folder):  # noqa: PTH112 # Path's may raise
            return
        raise StartError(f"{folder} (state_path): {error.strerror}") from None


def _hand_over(
    descriptor: int, user: pwd.struct_passwd, wanted: frozenset[str]
) -> None:
    """Give a folder, and those WANTED in it, to USER if root owns them."""
    for name in wanted.intersection(os.listdir(descriptor)):
        # It is gone, or a link: reported when the agent uses it. Or root
        # can't look into it, because containers lack CAP_DAC_READ_SEARCH:
        # then the service user owns it already.
        with (
            contextlib.suppress(
                FileNotFoundError, NotADirectoryError, PermissionError
            ),
            closing(os.open(name, _FOLDER, dir_fd=descriptor)) as inner,
        ):
            _hand_over(inner, user, _BELOW)
    # Last: without capabilities, root can enter only its own folders.
    if os.fstat(descriptor).st_uid == 0:
        os.fchown(descriptor, user.pw_uid, user.pw_gid)


@contextlib.contextmanager
def _reached(folder: Path, *, make: bool) -> Iterator[int]:
    """Yield a descriptor of FOLDER; with MAKE it is made if it is missing.

    Raises NotADirectoryError for a link that not only root can have made.
    """
    left, links = [*reversed(folder.absolute().parts)], 0
    place = os.open(left.pop(), _PLACE)
    try:
        while left:
            name = left.pop()
            target = _roots_link(name, place) if links < _MOST_LINKS else None
            if target is not None:
                left, links = [*left, *reversed(target.parts)], links + 1
                continue
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=place)
            inner = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=place)
            os.close(place)
            place = inner
        yield place
    finally:
        os.close(place)


def _roots_link(name: str, place: int) -> Path | None:
    """Return where the link NAME in PLACE leads, if only root can make one."""
    found = os.fstat(place)
    if found.st_uid == 0 and not found.st_mode & 0o022:
        with contextlib.suppress(OSError):  # no link
            return Path(os.readlink(name, dir_fd=place))
    return None


def hand_over_log(path: Path, user: pwd.struct_passwd) -> None:
    """Make USER the owner of the log PATH if root owns it."""
    with (
        contextlib.suppress(OSError),  # reported when it is opened
        _reached(path.parent, make=False) as folder,
        closing(os.open(path.name, _PLACE, dir_fd=folder)) as descriptor,
    ):
        entry = os.fstat(descriptor)
        # With a second link, it may be another file that root owns.
        is_own = stat.S_ISREG(entry.st_mode) and entry.st_nlink == 1
        if is_own and entry.st_uid == 0:
            os.chown(f"/proc/self/fd/{descriptor}", user.pw_uid, -1)
