"""The sandbox's "host": users, folders and privileges of its own.

/etc is a copy, /run, /var/log and /var/lib/neutron are empty, nobody reads
/dev/log, all of it in memory and in this mount namespace only: an agent, a
sudo rule or a user that a test makes never reaches the machine that runs it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from . import namespaces, syslog

ENVIRONMENT_MARK = "OVN_METADATA_SANDBOX"
SERVICE_USER = "ovn-metadata"
FLEET_USER = "ovn-metadata-fleet"
# The group of all haproxies; the users of the networks' follow.
FIRST_NETWORK_ID = 2013265920
_NETWORK_IDS = 2147352575 - FIRST_NETWORK_ID
HOME = Path("/var/lib/neutron")
OLD_PROXY = HOME / "ovn-metadata-proxy"  # Neutron's
PIDS = HOME / "external" / "pids"
FLEET = Path("/run/ovn-metadata-fleet")
CONFIGS = FLEET / "config"
LOG_FOLDER = Path("/var/log/neutron")
CONFIG_FOLDER = Path("/etc/neutron")
PRIVILEGE_FOLDER = Path("/etc/ovn-metadata-agent")
PRIVILEGED = PRIVILEGE_FOLDER / "privileged.conf"
SUDOERS_FOLDER = Path("/etc/sudoers.d")
REPOSITORY = Path(__file__).resolve().parents[2]

_STAGING = Path("/run/.staging")
_SUDOERS = """\
Defaults env_reset
Defaults use_pty
Defaults secure_path="{path}"
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What sudo, OVS, OVN and ip expect below an otherwise empty /run.
_RUN_FOLDERS = ("lock", "mount", "netns", "sudo", "openvswitch", "ovn")


def prepare() -> None:
    """Make this mount namespace a host of its own; called as its PID 1."""
    flags = namespaces.MS_REC | namespaces.MS_PRIVATE
    namespaces.mount("none", "/", "none", flags)
    safe = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount("proc", "/proc", "proc", safe)
    # sysfs shows the network devices of the namespace that mounted it.
    namespaces.mount("sysfs", "/sys", "sysfs", safe)
    _private_run()
    _private_etc()
    _private_var()
    _private_dev()
    add_user(SERVICE_USER)
    add_user(FLEET_USER)
    uid, gid = ids(SERVICE_USER)
    for folder in (HOME, LOG_FOLDER):
        folder.mkdir(mode=0o755, exist_ok=True)
        os.chown(folder, uid, gid)
    for folder in (CONFIG_FOLDER, PRIVILEGE_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)


def config_of(key: str) -> Path:
    """Return the configuration of the haproxy of KEY (or "gateway")."""
    return CONFIGS / f"{key}.conf"


def map_of(network: str) -> Path:
    """Return the map of NETWORK."""
    return FLEET / "read" / network / f"{network}.map"


def stats_of(key: str) -> Path:
    """Return the stats socket of the haproxy of KEY (or "gateway")."""
    return FLEET / "work" / key / "stats.sock"


def ids_of(key: str) -> tuple[int, int]:
    """Return whom the haproxy of KEY (or "gateway") runs as."""
    if key == "gateway":
        return ids(FLEET_USER)
    own = FIRST_NETWORK_ID + 1 + int(key[:8], 16) % _NETWORK_IDS
    return own, own


def ids(user: str) -> tuple[int, int]:
    """Return USER's uid and gid."""
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def add_user(name: str) -> None:
    """Give the private /etc a system user NAME that nobody else is."""
    passwd = Path("/etc/passwd")
    lines = [line.split(":") for line in passwd.read_text().splitlines()]
    if any(fields[0] == name for fields in lines):
        return
    groups = Path("/etc/group").read_text().splitlines()
    used = {int(fields[2]) for fields in lines if len(fields) > 2}
    used |= {int(group.split(":")[2]) for group in groups if ":" in group}
    number = next(n for n in range(990, 100, -1) if n not in used)
    _append(passwd, f"{name}:x:{number}:{number}::{HOME}:/usr/sbin/nologin")
    _append(Path("/etc/group"), f"{name}:x:{number}:")
    # Locked, but not expired: sudo's account check would refuse that.
    _append(Path("/etc/shadow"), f"{name}:!:19000::::::")


def install_privileges(prefix: Path, *, source: Path = REPOSITORY) -> None:
    """Install SOURCE's root-owned files as a package would.

    Programs that PREFIX (a venv) has are named there, not in /usr/bin.
    """
    filters = PRIVILEGE_FOLDER / "rootwrap.d"
    filters.mkdir(mode=0o755, exist_ok=True)
    for file, folder, mode in (
        ("etc/ovn-metadata-agent/privileged.conf", PRIVILEGE_FOLDER, 0o644),
        ("rootwrap/rootwrap.conf", PRIVILEGE_FOLDER, 0o644),
        ("rootwrap/metadata.filters", filters, 0o644),
        ("rootwrap/sudoers.d/ovn-metadata-agent", SUDOERS_FOLDER, 0o440),
    ):
        text = relocate((source / file).read_text(), prefix)
        target = folder / Path(file).name
        target.write_text(text)
        os.chown(target, 0, 0)
        target.chmod(mode)
    _write_sudoers(f"{prefix / 'bin'}:{_SYSTEM_PATH}")
    subprocess.run(["visudo", "--check", "--quiet"], check=True, timeout=20)


def relocate(text: str, prefix: Path) -> str:
    """Return TEXT with the programs that PREFIX has named there."""
    folder = prefix / "bin"

    def moved(match: re.Match[str]) -> str:
        program = folder / match.group(1)
        return str(program) if program.exists() else match.group(0)

    text = re.sub(r"/usr/bin/([\w.+-]+)", moved, text)
    if str(prefix) == "/usr":
        return text
    return re.sub(r"(?m)^(exec_dirs\s*=\s*)", rf"\g<1>{folder},", text)


def _append(path: Path, line: str) -> None:
    text = path.read_text()
    separator = "" if text.endswith("\n") or not text else "\n"
    path.write_text(f"{text}{separator}{line}\n")


def _write_sudoers(path: str) -> None:
    sudoers = Path("/etc/sudoers")
    sudoers.unlink(missing_ok=True)
    sudoers.write_text(_SUDOERS.format(path=path))
    sudoers.chmod(0o440)


def _private_run() -> None:
    namespaces.mount("tmpfs", "/run", "tmpfs", data="mode=0755")
    for name in _RUN_FOLDERS:
        (Path("/run") / name).mkdir(mode=0o755)
    Path("/run/lock").chmod(0o1777)
    Path("/run/sudo").chmod(0o711)
    netns = str(namespaces.NETNS_FOLDER)
    namespaces.mount("tmpfs", netns, "tmpfs", data="mode=0755")
    namespaces.mount("none", netns, "none", namespaces.MS_SHARED)
    _STAGING.mkdir(mode=0o700)


def _private_etc() -> None:
    copy = _STAGING / "etc"
    subprocess.run(["cp", "-a", "/etc", str(copy)], check=True, timeout=60)
    namespaces.bind(str(copy), "/etc")
    shutil.rmtree(SUDOERS_FOLDER, ignore_errors=True)
    SUDOERS_FOLDER.mkdir(mode=0o755)
    _write_sudoers(_SYSTEM_PATH)


def _private_var() -> None:
    """Empty /var/log; in /var/lib all but neutron, which is empty.

    /var/lib/neutron may not exist outside, and must not come to: so the
    folder is made of what is there, each entry bound into a tmpfs.
    """
    namespaces.mount("tmpfs", "/var/log", "tmpfs", data="mode=0755")
    copy = _STAGING / "lib"
    copy.mkdir(mode=0o755)
    for entry in Path("/var/lib").iterdir():
        target = copy / entry.name
        if entry.name in (HOME.name, "sudo"):  # sudo notes whom it lectured
            continue
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
        elif entry.is_dir():
            target.mkdir()
            namespaces.bind(str(entry), str(target))
    namespaces.bind(str(copy), "/var/lib")


def _private_dev() -> None:
    """Have all of /dev in a folder of our own, and a log nobody reads."""
    copy = _STAGING / "dev"
    copy.mkdir(mode=0o755)
    for entry in Path("/dev").iterdir():
        target = copy / entry.name
        if entry.name == "log":
            continue
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
            continue
        if entry.is_dir():
            target.mkdir()
        else:
            target.touch()
        namespaces.bind(str(entry), str(target))
    namespaces.bind(str(copy), "/dev")
    data = "newinstance,ptmxmode=0666"
    namespaces.mount("devpts", "/dev/pts", "devpts", data=data)
    if not Path("/dev/ptmx").is_symlink():
        namespaces.bind("/dev/pts/ptmx", "/dev/ptmx")
    syslog.leave()
