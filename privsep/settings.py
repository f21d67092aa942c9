"""Root's own settings: who the haproxies run as, and which haproxy runs.

They decide what root executes, so they come from a file that only root can
write and never from the agent.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from oslo_config import cfg

from . import rootfiles, validate
from .errors import InvalidArgumentError, SettingsError

DEFAULT_FILE = Path("/etc/ovn-metadata-agent/privileged.conf")
DEFAULT_FLEET_USERS = ("ovn-metadata-fleet", "haproxy", "nobody")

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
        help="User of the haproxies; never root, nor the agent's. Empty: "
        "the first of ovn-metadata-fleet, haproxy, nobody that exists.",
    ),
    cfg.StrOpt(
        "run_dir",
        default="/run/ovn-metadata-fleet",
        help="Root-owned folder of supervisord: its socket and programs.",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the fleet runs as, and from where."""

    haproxy: str
    user: str
    uid: int
    gid: int
    run_dir: Path
    # Nobody has named the user, and it is one that others may run as too.
    is_fallback: bool = False

    @property
    def socket(self) -> Path:
        """The RPC socket of supervisord."""
        return self.run_dir / "supervisord.sock"

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
    files = [str(path)] if path.exists() else []
    try:
        conf(args=[], default_config_files=files, default_config_dirs=[])
    except cfg.Error as error:
        raise SettingsError(f"{path}: {error}") from None
    return read(conf, runnable=runnable)


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
