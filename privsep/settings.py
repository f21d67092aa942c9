"""Root's settings: which haproxy runs, and as which users.

They decide what root executes, so they come from a file that only root can
write, never from the agent.
"""

import dataclasses
import os
import pwd
import re
import resource
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from oslo_config import cfg

from . import names, rootfiles, validate
from .errors import InvalidArgumentError, SettingsError
from .places import Folder, Places

DEFAULT_FILE = Path("/etc/ovn-metadata-agent/privileged.conf")
# No one else uses these: above the ids that systemd gives to containers and
# sssd to users of a directory, below those of systemd's foreign images
# (systemd's "Users, Groups, UIDs and GIDs", sssd-ldap(5)).
DEFAULT_NETWORK_IDS = "2013265920-2147352575"
DEFAULT_FLEET_USERS = ("ovn-metadata-fleet", "haproxy", "nobody")

_FEWEST_IDS = 65536
_ID_MAPS = ("/proc/self/uid_map", "/proc/self/gid_map")

# What the gateway's haproxy may open (agent/haproxy/render.py), and what
# ovn-metadata-fleet.service allows: each network takes five of supervisord's.
HAPROXY_DESCRIPTORS = 17_000
FLEET_DESCRIPTORS = 65_535

GROUP = "fleet"
OPTIONS = (
    cfg.StrOpt(
        "haproxy",
        default="/usr/sbin/haproxy",
        help="Absolute path of the haproxy binary.",
    ),
    cfg.StrOpt(
        "user",
        default="",
        help="User of the gateway; never root, nor the agent's. Empty: "
        "the first of ovn-metadata-fleet, haproxy, nobody that exists.",
    ),
    cfg.StrOpt(
        "network_ids",
        default=DEFAULT_NETWORK_IDS,
        help="First and last of the user and group ids of which each "
        "network's haproxy has one of its own. Empty: all run as `user`.",
    ),
    cfg.StrOpt(
        "run_dir",
        default="/run/ovn-metadata-fleet",
        help="Root-owned folder of supervisord: its socket and programs.",
    ),
)


class Ids(NamedTuple):
    """A user and its group."""

    uid: int
    gid: int


@dataclasses.dataclass(frozen=True, slots=True)
class FleetSettings:
    """The haproxy binary, the users it runs as, and the run folder."""

    haproxy: str
    user: str
    uid: int
    gid: int
    run_dir: Path
    # Users of the networks' haproxies; empty: they run as the gateway's.
    network_ids: range = range(0)
    # The user is not configured, and other programs may run as it too.
    is_fallback: bool = False

    @property
    def users(self) -> str:
        """All users of the haproxies, as one word to compare."""
        ids = self.network_ids
        return f"{self.uid}-{self.gid}-{ids.start}-{ids.stop}"

    @property
    def common_gid(self) -> int:
        """The group of all haproxies."""
        return self.network_ids[0] if self.network_ids else self.gid

    def user_of(self, network: str) -> Ids:
        """Return the user of the haproxy of NETWORK (or "gateway").

        Always the same one, or it could not take over from its predecessor.
        Among 1,000 networks the chance that two share a user is 0.4 %; those
        are then as safe as with one user for all.
        """
        if network == names.GATEWAY or not self.network_ids:
            return Ids(self.uid, self.gid)
        own = self.network_ids[1:]
        number = own[int(network[:8], 16) % len(own)]
        return Ids(number, number)

    @property
    def places(self) -> Places:
        """The fleet's files, folders and sockets."""
        return Places(self.run_dir)

    def folders(self, network: str) -> tuple[Folder, ...]:
        """Return the folders that NETWORK's haproxy (or gateway) needs."""
        places, own = self.places, self.user_of(network).gid
        needed = (
            Folder(places.config_folder, self.common_gid, 0o2750),
            Folder(places.read_folder(network), own, 0o2750),
            Folder(places.work_folder(network), own, 0o2770),
        )
        if network != names.GATEWAY:
            return needed
        return (*needed, Folder(places.socket_folder, own, 0o2771))


def load(*files: Path, runnable: bool = True) -> FleetSettings:
    """Read those of FILES that exist; the last one takes precedence.

    Unless RUNNABLE is False, haproxy must be installed. Raises SettingsError
    of one line with the remedy.
    """
    conf = cfg.ConfigOpts()
    conf.register_opts(OPTIONS, group=GROUP)
    path = files[-1] if files else DEFAULT_FILE
    there = [one for file in files for one in existing(file)]
    try:
        conf(args=[], default_config_files=there, default_config_dirs=[])
    except cfg.Error as error:
        raise SettingsError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        # A container engine makes a folder where a file to mount is missing.
        why = getattr(error, "strerror", "it is not UTF-8 text")
        raise SettingsError(f"{path} can't be read: {why}") from None
    try:
        return _read(conf, runnable=runnable)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def warnings() -> list[str]:
    """Return warnings about a fleet that has the limits of this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    warning = (
        f"at most {hard} file descriptors here: haproxies take fewer "
        f"connections, and supervisord fewer networks; set LimitNOFILE= (in a "
        f"container: its ulimit nofile) to {FLEET_DESCRIPTORS}"
    )
    return [warning] if 0 <= hard < HAPROXY_DESCRIPTORS else []


def existing(path: Path) -> list[str]:
    """Return the file PATH if it exists.

    Raises SettingsError if we may not look into its folder: it may exist.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    return [str(path)]


def _read(conf: cfg.ConfigOpts, *, runnable: bool) -> FleetSettings:
    section = {option.dest: _value(conf, option.dest) for option in OPTIONS}
    haproxy = _path(section["haproxy"], "haproxy")
    if runnable:
        _check_executable(haproxy)
    user = _fleet_user(section["user"])
    return FleetSettings(
        haproxy=haproxy,
        user=user.pw_name,
        uid=user.pw_uid,
        gid=user.pw_gid,
        run_dir=Path(_path(section["run_dir"], "run_dir")),
        network_ids=_network_ids(section["network_ids"], user),
        is_fallback=not section["user"]
        and user.pw_name != DEFAULT_FLEET_USERS[0],
    )


def _value(conf: cfg.ConfigOpts, option: str) -> str:
    try:
        return str(conf[GROUP][option])
    except (cfg.Error, RecursionError, ValueError) as error:
        raise SettingsError(f"[fleet] {option}: {error}") from None


def _path(value: str, option: str) -> str:
    """Return VALUE if supervisord's files can contain it."""
    try:
        return validate.folder(value)
    except InvalidArgumentError:
        raise SettingsError(
            f"[fleet] {option} = {value!r:.80} is no absolute path without "
            f"blanks, quotes and '%'"
        ) from None


def _network_ids(value: str, user: pwd.struct_passwd) -> range:
    """Return the ids in VALUE; none if this user namespace lacks some.

    Some containers have a user namespace with fewer ids.
    """
    if not value.strip():
        return range(0)
    match = re.fullmatch(r"(\d{1,10}) *- *(\d{1,10})", value.strip(), re.ASCII)
    first, last = map(int, match.groups()) if match else (0, 0)
    ids = range(first, last + 1)
    if len(ids) < _FEWEST_IDS or last > validate.MAX_ID:
        raise SettingsError(
            f"[fleet] network_ids = {value!r:.80} is no range of ids like "
            f"{DEFAULT_NETWORK_IDS}, at least {_FEWEST_IDS} of them"
        )
    for taken in (0, rootfiles.caller_uid(), user.pw_uid, user.pw_gid):
        if taken in ids:
            raise SettingsError(
                f"[fleet] network_ids = {value} includes {taken}, an id of "
                f"root, the agent or the gateway; set another range"
            )
    return ids if all(_is_mapped(ids, file) for file in _ID_MAPS) else range(0)


def _is_mapped(ids: range, file: str) -> bool:
    """Return whether the user namespace that we are in has all IDS.

    user_namespaces(7): each line of FILE has the first id inside, the first
    id outside, and their number.
    """
    try:
        with open(file) as lines:
            for line in lines:
                first, _, count = map(int, line.split())
                if first <= ids[0] and ids[-1] < first + count:
                    return True
    except FileNotFoundError:  # a kernel without user namespaces
        return True
    return False


def check_owner(files: Iterable[str | Path]) -> None:
    """Refuse FILES that someone other than root could have written.

    Raises SettingsError naming the file and the command that corrects it.
    """
    for name in files:
        # As it is written, and where its links lead: root must own both.
        for path in {Path(os.path.abspath(name)), Path(name).resolve()}:
            for place in (path, *path.parents):
                _check_place(place)


def check_run_dir(settings: FleetSettings) -> None:
    """Refuse a run_dir that someone other than root could rename.

    It holds what supervisord runs as root. Raises as `check_owner`.
    """
    above = filter(os.path.lexists, settings.run_dir.parents)
    check_owner([str(next(above))])


def _check_place(place: Path) -> None:
    entry = os.lstat(place)
    is_link = stat.S_ISLNK(entry.st_mode)  # a link's mode is not used
    sticky = entry.st_mode & stat.S_ISVTX and stat.S_ISDIR(entry.st_mode)
    is_open = entry.st_mode & 0o022 and not sticky and not is_link
    if entry.st_uid != 0 or is_open:
        raise SettingsError(
            f"{place} decides what root runs, but not only root can write "
            f"it; chown root:root and chmod go-w it"
        )
    if is_link:  # so must each be on its way
        check_owner([place.parent.resolve() / place.readlink()])


def _check_executable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SettingsError(
            f"haproxy not found at {path} ({error.strerror}); install the "
            f"package haproxy or set [fleet] haproxy"
        ) from None
    for name in (path, os.path.realpath(path)):
        # A haproxy without supervisord is recognised by these.
        if "haproxy" not in os.path.basename(name):
            raise SettingsError(
                f"{name}: the name of [fleet] haproxy must contain haproxy"
            )
    if magic.startswith(b"#!"):
        # Kolla and EDPM install wrappers there that detach at once: to
        # supervisord each haproxy would seem to die at its start.
        raise SettingsError(
            f"{path} is a script, not haproxy itself; set [fleet] haproxy to "
            f"the real binary (the fleet outlives the agent without a wrapper)"
        )
    if not os.access(path, os.X_OK):
        raise SettingsError(f"{path} is not executable; chmod +x it")


def _fleet_user(name: str) -> pwd.struct_passwd:
    for candidate in (name,) if name else DEFAULT_FLEET_USERS:
        try:
            user = pwd.getpwnam(candidate)
        except (KeyError, ValueError):  # ValueError: a NUL is in it
            continue
        if user.pw_uid in (0, rootfiles.caller_uid()):
            raise SettingsError(
                f"[fleet] user {candidate} is root or the agent's own user; "
                f"set another one"
            )
        return user
    raise SettingsError(
        f"no user {name or ' or '.join(DEFAULT_FLEET_USERS)} for the "
        f"haproxies; create it (useradd --system) or set [fleet] user"
    )
