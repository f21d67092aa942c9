"""Root's own settings: who the haproxies run as, and which haproxy runs.

They decide what root executes, so they come from a file that only root can
write and never from the agent.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from oslo_config import cfg

from . import names, rootfiles, validate
from .errors import InvalidArgumentError, SettingsError
from .places import Folder, Places

DEFAULT_FILE = Path("/etc/ovn-metadata-agent/privileged.conf")
# Nobody's: above what systemd gives to containers and what sssd maps users
# of a directory to, below systemd's ids of foreign images (systemd's "Users,
# Groups, UIDs and GIDs", sssd-ldap(5)).
DEFAULT_NETWORK_IDS = "2013265920-2147352575"
DEFAULT_FLEET_USERS = ("ovn-metadata-fleet", "haproxy", "nobody")

_FEWEST_IDS = 65536
_ID_MAPS = ("/proc/self/uid_map", "/proc/self/gid_map")

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
    """What the fleet runs as, and from where."""

    haproxy: str
    user: str
    uid: int
    gid: int
    run_dir: Path
    # Of the networks' haproxies; empty: they run as the gateway does.
    network_ids: range = range(0)
    # Nobody has named the user, and it is one that others may run as too.
    is_fallback: bool = False

    @property
    def users(self) -> str:
        """Whom the haproxies run as, in one word."""
        ids = (
            self.uid,
            self.gid,
            self.network_ids.start,
            self.network_ids.stop,
        )
        return "-".join(map(str, ids))

    @property
    def common_gid(self) -> int:
        """The group that all haproxies are in."""
        return self.network_ids[0] if self.network_ids else self.gid

    def user_of(self, network: str) -> Ids:
        """Return who the haproxy of NETWORK (or "gateway") runs as.

        Always the same, or it could not take over from its predecessor. Of
        1,000 networks two have the same one with a chance of 0.4 %: they
        are no better off then than with one user for all.
        """
        if network == names.GATEWAY or not self.network_ids:
            return Ids(self.uid, self.gid)
        own = self.network_ids[1:]
        number = own[int(network[:8], 16) % len(own)]
        return Ids(number, number)

    @property
    def places(self) -> Places:
        """The haproxies' files and sockets."""
        return Places(self.run_dir)

    def folders(self, network: str) -> tuple[Folder, ...]:
        """Return the folders that NETWORK's haproxy (or gateway) needs."""
        return self.places.folders(
            network, own=self.user_of(network).gid, common=self.common_gid
        )

    @property
    def socket(self) -> Path:
        """The RPC socket of supervisord."""
        return self.run_dir / "supervisord.sock"

    @property
    def gateway_socket(self) -> Path:
        """Where the networks' haproxies ask the gateway."""
        return self.run_dir / names.GATEWAY_SOCKET

    @property
    def agent_lock(self) -> Path:
        """The file that this host's one agent holds a lock of."""
        return self.run_dir / "agent.lock"

    @property
    def programs(self) -> Path:
        """Folder of the program files that supervisord includes."""
        return self.run_dir / "programs"

    @property
    def logs(self) -> Path:
        """Folder of what the programs print."""
        return self.run_dir / "log"


def load(path: Path = DEFAULT_FILE, *, runnable: bool = True) -> FleetSettings:
    """Read PATH, or the defaults where it does not exist.

    Unless RUNNABLE is False haproxy has to be there. Raises SettingsError,
    in one line with the remedy.
    """
    conf = cfg.ConfigOpts()
    files = existing(path)
    try:
        conf(args=[], default_config_files=files, default_config_dirs=[])
    except cfg.Error as error:
        raise SettingsError(f"{path}: {error}") from None
    return read(conf, runnable=runnable)


def existing(path: Path) -> list[str]:
    """Return the file PATH if it exists.

    Raises SettingsError if its folder is closed to us: then it may be there.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    return [str(path)]


def read(conf: cfg.ConfigOpts, *, runnable: bool = True) -> FleetSettings:
    """Return the settings in CONF, checked; raise SettingsError."""
    conf.register_opts(OPTIONS, group=GROUP)
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
    except (cfg.Error, ValueError) as error:
        raise SettingsError(f"[fleet] {option}: {error}") from None


def _path(value: str, option: str) -> str:
    """Return VALUE if it can stand in one of supervisord's files."""
    try:
        return validate.folder(value)
    except InvalidArgumentError:
        raise SettingsError(
            f"[fleet] {option} = {value!r:.80} is no absolute path without "
            f"blanks, quotes and '%'"
        ) from None


def _network_ids(value: str, user: pwd.struct_passwd) -> range:
    """Return the ids in VALUE; none where they do not exist here.

    In a user namespace, as some containers have, there are fewer.
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
                f"[fleet] network_ids = {value} has {taken} in it, which is "
                f"root's, the agent's or the gateway's"
            )
    return ids if all(_is_mapped(ids, file) for file in _ID_MAPS) else range(0)


def _is_mapped(ids: range, file: str) -> bool:
    """Tell whether the user namespace that we are in has all IDS.

    user_namespaces(7): each line of FILE has the first id inside, the first
    one outside, and how many they are.
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


def check_owner(files: Iterable[str]) -> None:
    """Refuse FILES that someone other than root could have written.

    Raises SettingsError naming the file and the command that mends it.
    """
    for name in files:
        # As it is written, and where its links lead: both must be root's.
        for path in {Path(os.path.abspath(name)), Path(name).resolve()}:
            for place in (path, *path.parents):
                _check_place(place)


def _check_place(place: Path) -> None:
    entry = os.lstat(place)
    is_link = stat.S_ISLNK(entry.st_mode)  # a link's mode says nothing
    sticky = entry.st_mode & stat.S_ISVTX and stat.S_ISDIR(entry.st_mode)
    is_open = entry.st_mode & 0o022 and not sticky and not is_link
    if entry.st_uid != 0 or is_open:
        raise SettingsError(
            f"{place} decides what root runs but is not root's alone; "
            f"chown root:root and chmod go-w it"
        )


def _check_executable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SettingsError(
            f"haproxy not found at {path} ({error.strerror}); install the "
            f"package haproxy or set [fleet] haproxy in {DEFAULT_FILE}"
        ) from None
    if magic.startswith(b"#!"):
        # Kolla and EDPM put wrappers there that detach at once; supervisord
        # would see each haproxy die as soon as it was started.
        raise SettingsError(
            f"{path} is a script, not haproxy itself; set [fleet] haproxy "
            f"in {DEFAULT_FILE} to the real binary (the fleet outlives the "
            f"agent without a wrapper)"
        )
    if not os.access(path, os.X_OK):
        raise SettingsError(f"{path} is not executable; chmod +x it")


def _fleet_user(name: str) -> pwd.struct_passwd:
    for candidate in (name,) if name else DEFAULT_FLEET_USERS:
        try:
            user = pwd.getpwnam(candidate)
        except KeyError:
            continue
        if user.pw_uid in (0, rootfiles.caller_uid()):
            raise SettingsError(
                f"[fleet] user {candidate} is root or the agent's own user; "
                f"name another one"
            )
        return user
    raise SettingsError(
        f"no user {name or ' or '.join(DEFAULT_FLEET_USERS)} for the "
        f"haproxies; create it (useradd --system) or set [fleet] user"
    )
