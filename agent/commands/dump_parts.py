"""What `agent-status dump` puts into its archive, before it is masked.

Never the maps, certificates and keys, nor the files of other programs.
"""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from oslo_config import cfg

from ...privsep import names
from ...privsep import settings as fleet_settings
from ...privsep.errors import PrivilegedError
from .. import unixsocket
from ..config import options
from ..config.options import PROGRAM
from ..config.sources import Origin
from ..core.masking import MASK
from ..errors import AgentError
from . import client

# Name of a file in the archive -> what reads it: text, or what JSON has.
Parts = dict[str, Callable[[], Any]]
Written = list[tuple[cfg.Opt, str, Origin]]

_STATUS_S = 1.5
_ANSWER_S = 6.0
_MAX_FILE = 1024 * 1024  # bytes
_LOG_FOLDER = Path("/var/log/ovn-metadata-agent")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNITS = (PROGRAM, "ovn-metadata-fleet", "ovn-metadata-privsep@*")
_COMMANDS = {
    "journal.txt": ("journalctl", "-n2000", *(f"-u{u}" for u in _UNITS)),
    "systemd.txt": ("systemctl", "status", "-n0", "-l", *_UNITS),
    "units.txt": ("systemctl", "cat", *_UNITS),
    "version-ovn.txt": ("ovn-controller", "--version"),
    "version-ovs.txt": ("ovs-vswitchd", "--version"),
}
_IN_NAMESPACE = "address\nroute\n-6 route\nneighbour\n"
_PROGRAMS = re.compile(r"ovn|ovs|haproxy|supervisord|neutron")
_LIMITED = re.compile(rf"{PROGRAM}|ovn-metadata-privsep|supervisord")
_LIBRARIES = re.compile("ovn|ovs|oslo|psutil|pyroute2|supervisor|prometheus")


def parts(source: argparse.Namespace) -> tuple[Parts, list[str], str]:
    """Return what the archive has, the secrets, and the chassis' name."""
    path, _ = client.find_socket(source)
    status: dict[str, Any] = {}  # of an agent that answers
    with contextlib.suppress(OSError, ValueError):
        status = client.ask(path, timeout_s=_STATUS_S)
    argv = client.config_arguments(source) or _running(status)
    found: Parts = {
        **{name: partial(_output, *c) for name, c in _COMMANDS.items()},
        "versions.txt": _versions,
        "processes.txt": _processes,
        "namespaces.txt": _namespaces,
    }
    written: Written = []
    secrets: list[str] = []
    try:
        written, secrets = options.written(argv)
    except AgentError as error:
        found["refusal.txt"] = partial(str, error)
    found["configuration.txt"] = partial(configuration, written)
    given = {option.dest: origin.text for option, _, origin in written}
    found["agent.log"] = partial(_texts, _log_files(given))
    found["metrics.txt"] = partial(_metrics, given)
    found |= {**_asked(path), **_fleet(given)}
    if status:  # a busy agent may not answer a second time
        found["status.json"] = lambda: status
    return found, secrets, str(status.get("chassis", ""))


def _running(status: Mapping[str, Any]) -> list[str]:
    """Return the arguments of the agent with STATUS that name its files.

    Nothing if somebody else than root may write them: this may be root, and
    any program of the agent's user may have answered.
    """
    with contextlib.suppress(KeyError, OSError, PrivilegedError, psutil.Error):
        words = psutil.Process(status["pid"]).cmdline()
        if PROGRAM in " ".join(words):  # else it is in a container
            known, _ = client.source_options().parse_known_args(words)
            given = known.config_file + known.config_dir
            fleet_settings.check_owner(given)
            for folder in map(Path, known.config_dir):
                fleet_settings.check_owner(map(str, folder.glob("*.conf")))
            return client.config_arguments(known)
    return []


def configuration(written: Written) -> str:
    """Return all options as they are WRITTEN, each with its place."""
    lines = []
    for option, section, origin in written:
        text = MASK if option.secret and origin.text else origin.text
        lines.append(f"# {origin.place}\n[{section}] {option.name} = {text}\n")
    return "".join(lines)


def _asked(path: Path) -> Parts:
    """Return what the agent at PATH answers."""
    ask = partial(client.ask_handler, path, timeout_s=_ANSWER_S)
    return {
        "status.json": partial(client.ask, path, timeout_s=_STATUS_S),
        "why.json": partial(ask, {"why": "", "within_s": _ANSWER_S / 2}),
        "asks.json": partial(ask, {"asks": ""}),
    }


def _metrics(given: dict[str, str]) -> str:
    """Return what Prometheus gets on the socket that GIVEN names."""
    name = given.get("metrics_socket", "")
    name = name.replace("$state_path", given.get("state_path", ""))
    answer = unixsocket.exchange(
        Path(name),
        b"GET /metrics HTTP/1.0\r\n\r\n",
        max_bytes=4 * _MAX_FILE,
        timeout_s=_ANSWER_S,
    )
    return answer.decode(errors="replace").partition("\r\n\r\n")[2]


def _log_files(given: dict[str, str]) -> list[Path]:
    """Return the agent's logs, as its options say and in the usual place."""
    name, folder = given.get("log_file", ""), given.get("log_dir", "")
    files = {*_LOG_FOLDER.glob("*.log")}
    if name or folder:
        usual = (f"{PROGRAM}.log", f"{options.NEUTRON_PROGRAM}.log")
        files |= {Path(folder, each) for each in ([name] if name else usual)}
    return sorted(files)


def _fleet(given: dict[str, str]) -> Parts:
    """Return what is in the fleet's folder, and what supervisord answers."""
    run_dir, haproxy = Path("/run/ovn-metadata-fleet"), "haproxy"
    file = given.get("privileged_config") or fleet_settings.DEFAULT_FILE
    # If that can't be used, the agent's log has the reason.
    with contextlib.suppress(PrivilegedError, OSError):
        # This may be root, and the agent's user may have named the file.
        fleet_settings.check_owner(fleet_settings.existing(Path(file)))
        fleet = fleet_settings.load(Path(file), runnable=False)
        fleet_settings.check_owner([fleet.haproxy])
        run_dir, haproxy = fleet.run_dir, fleet.haproxy
    server = ("-s", f"unix://{run_dir}/supervisord.sock")
    return {
        "haproxies.txt": lambda: _texts(
            sorted((run_dir / "config").glob("*.conf"))
        ),
        "fleet.log": lambda: _texts(sorted((run_dir / "log").iterdir())),
        "supervisord.txt": partial(
            _output, "supervisorctl", *server, "status"
        ),
        "version-haproxy.txt": partial(_output, haproxy, "-vv"),
    }


def _texts(files: Iterable[Path]) -> str:
    """Return the ends of FILES; raise OSError if none can be read."""
    found, failure = [], OSError("there is none that this user can see")
    for file in files:
        try:
            found.append(f"==> {file} <==\n{tail(file)}\n")
        except OSError as error:
            failure = error
    if not found:
        raise failure
    return "".join(found)


def tail(file: Path) -> str:
    """Return the last lines of FILE; raise OSError if it is a link.

    Another user may be able to write in its folder, and this may be root.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(file, flags), "rb") as opened:
        entry = os.fstat(opened.fileno())
        if not stat.S_ISREG(entry.st_mode) or entry.st_nlink != 1:
            raise OSError(f"{file} is no file, or has other names")
        opened.seek(max(0, entry.st_size - _MAX_FILE))
        text = opened.read(_MAX_FILE).decode(errors="replace")
    # The first line may begin inside a secret, which would not be found.
    return text if entry.st_size <= _MAX_FILE else text.partition("\n")[2]


def _output(*command: str, stdin: str = "") -> str:
    """Return what COMMAND prints, whatever its exit code."""
    folder = os.path.dirname(sys.executable)  # noqa: PTH120 # not resolved
    return subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_ANSWER_S,
        check=False,
        encoding="utf-8",
        errors="replace",
        cwd="/",
        env={"PATH": f"{folder}:{_PATH}", "LANG": "C"},
    ).stdout


def _versions() -> str:
    libraries = sorted(
        f"{one.metadata['Name']} {one.version}"
        for one in importlib.metadata.distributions()
        if _LIBRARIES.search(one.metadata["Name"] or "")
    )
    about = [sys.version, sys.executable, platform.platform(), *libraries]
    return "\n".join([*about, tail(Path("/usr/lib/os-release"))])


def _processes() -> str:
    """Return the processes on the path, and the limits of the agent's."""
    lines = []
    fields = ["pid", "ppid", "username", "create_time", "cmdline"]
    for process in psutil.process_iter(fields):
        pid, parent, user, began, words = map(process.info.get, fields)
        line = " ".join(words or ())
        if _PROGRAMS.search(" ".join((words or ())[:3])):
            since = time.strftime("%FT%TZ", time.gmtime(began))
            lines.append(f"{pid} parent {parent} {user} since {since} {line}")
        if _LIMITED.search(line) and "haproxy" not in line:
            with contextlib.suppress(OSError):
                lines.append(Path(f"/proc/{pid}/limits").read_text())
    return "\n".join(lines)


def _namespaces() -> str:
    """Return addresses, routes and neighbours in the networks' namespaces."""
    if os.geteuid() != 0:
        raise PermissionError("only root can enter them; see why.json")
    return "".join(
        f"==> {name} <==\n"
        + _output("ip", "-netns", name, "-batch", "-", stdin=_IN_NAMESPACE)
        for name in sorted(os.listdir(names.NAMESPACE_FOLDER))  # noqa: PTH208 # names
        if names.network_of_namespace(name)
    )
