"""What stands between the agent's user and root, tried from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from oslo_privsep import capabilities

from ovn_metadata.privsep.context import CAPABILITIES
from sandbox import Sandbox, host, privileged_calls, wait_for
from sandbox.case import Case
from sandbox.daemons import run
from sandbox.sockets import status

FLEET = Path("/run/ovn-metadata-fleet")
BIN = Path(sys.prefix) / "bin"
CONTEXT = "ovn_metadata.privsep.context.default"
CONFIG = "/etc/ovn-metadata-agent/privileged.conf"
CALLS = Path(privileged_calls.__file__).read_text()


def as_user(user: str) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")


def execute(
    *command: str, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=stdin,
        env={"PATH": os.environ["PATH"], **(env or {})},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# -------------------------------------------------------------------- sudo


@pytest.fixture
def place(box: Sandbox) -> Iterator[Path]:
    """Give a folder as oslo.privsep makes it, the service user's."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(folder, *host.ids(host.SERVICE_USER))
    yield folder
    shutil.rmtree(folder)


def pinned(place: Path) -> list[str]:
    """Return the one command that the service user may have sudo run."""
    return [
        str(BIN / "ovn-metadata-rootwrap"),
        *("/etc/ovn-metadata-agent/rootwrap.conf", "privsep-helper"),
        *("--config-file", CONFIG, "--privsep_context", CONTEXT),
        *("--privsep_sock_path", f"{place}/privsep.sock"),
    ]


# What becomes of the pinned command's words.
VARIATIONS = {
    "another context": (CONTEXT, "os.system"),
    "a context beside it": (CONTEXT, f"{CONTEXT}2"),
    "the context twice": (
        CONTEXT,
        f"{CONTEXT}\n--privsep_context\nsubprocess.call",
    ),
    "another configuration": (CONFIG, "/tmp/x.conf"),
    "another configuration by dots": (CONFIG, f"{CONFIG}/../../../tmp/x.conf"),
    "another configuration too": (
        "--privsep_context",
        "--config-file\n/tmp/x.conf\n--privsep_context",
    ),
    "a configuration folder": (
        "--privsep_context",
        "--config-dir\n/tmp\n--privsep_context",
    ),
    "another configuration by =": ("--config-file", "--config-file=/tmp/x"),
    "a configuration twice": (
        "--config-file",
        f"--config-file\n{CONFIG}\n--config-file",
    ),
    "no configuration": (f"--config-file\n{CONFIG}\n", ""),
    "rootwrap's configuration": (
        "/etc/ovn-metadata-agent/rootwrap.conf",
        "/tmp/rootwrap.conf",
    ),
    "rootwrap's configuration by dots": (
        "/etc/ovn-metadata-agent/rootwrap.conf",
        "/etc/ovn-metadata-agent/../ovn-metadata-agent/rootwrap.conf",
    ),
    "another program": ("privsep-helper", "sh"),
    "another program by its path": ("privsep-helper", "/tmp/privsep-helper"),
    "a socket elsewhere": ("/privsep.sock", "/x.sock"),
    "a socket by dots": ("/privsep.sock", "/../privsep.sock"),
    "a socket and more": ("/privsep.sock", "/privsep.sock\n--debug"),
    "a socket and a line": ("/privsep.sock", "/privsep.sock\n\n"),
    "nothing but the program": ("privsep-helper\n", "privsep-helper\0"),
    "python itself": ("ovn-metadata-rootwrap", "python"),
    "the helper itself": ("ovn-metadata-rootwrap", "privsep-helper"),
    "the program's name elsewhere": (str(BIN), "/tmp"),
}


def varied(place: Path, name: str) -> list[str]:
    old, new = VARIATIONS[name]
    text = "\n".join(pinned(place))
    assert old in text
    return text.replace(old, new).partition("\0")[0].split("\n")


def may(user: str, *command: str) -> bool:
    return (
        execute(*as_user(user), "sudo", "-n", "-l", *command).returncode == 0
    )


def test_sudo_lets_the_pinned_command_through(place: Path):
    """It runs, as root, and finds no socket."""
    assert may(host.SERVICE_USER, *pinned(place))
    said = execute(*as_user(host.SERVICE_USER), "sudo", "-n", *pinned(place))
    assert "password is required" not in said.stderr
    assert "FileNotFoundError" in said.stdout + said.stderr


@pytest.mark.parametrize("name", VARIATIONS)
def test_sudo_refuses_a_variation(place: Path, name: str):
    command = varied(place, name)
    assert not may(host.SERVICE_USER, *command)
    said = execute(*as_user(host.SERVICE_USER), "sudo", "-n", *command)
    assert said.returncode == 1
    assert "sudo: a password is required" in said.stderr


@pytest.mark.parametrize(
    "options",
    [
        *(["-u", "ovn-metadata-fleet"], ["-u", "nobody"], ["-g", "shadow"]),
        *(["-s"], ["-i"], ["-D", "/tmp"], ["-R", "/tmp"], ["-C", "9"]),
        *(["-T", "9"], ["PYTHONPATH=/tmp"], ["LD_PRELOAD=/tmp/x.so"]),
    ],
    ids=" ".join,
)
def test_sudo_refuses_an_option_of_its_own(place: Path, options: list[str]):
    said = execute(
        *as_user(host.SERVICE_USER), "sudo", "-n", *options, *pinned(place)
    )
    assert said.returncode == 1
    assert said.stderr.startswith("sudo: ")


@pytest.mark.parametrize("user", [host.FLEET_USER, "nobody"])
def test_sudo_refuses_other_users(place: Path, user: str):
    number = str(host.ids(user)[0])
    who = ("setpriv", f"--reuid={number}", "--clear-groups")
    for command in (pinned(place), ["true"]):
        said = execute(*who, "sudo", "-n", *command)
        assert said.returncode == 1
        assert "sudo: " in said.stderr


def test_environment_does_not_reach_roots_python(place: Path):
    """Code that every Python runs at its start, if it is told where."""
    ran = place / "ran"
    code = f"import os; open({str(ran)!r}, 'a').write(str(os.geteuid()))"
    for name in ("sitecustomize.py", "usercustomize.py", "start.py"):
        (place / name).write_text(code)
    hostile = {
        "PYTHONPATH": str(place),
        "PYTHONSTARTUP": str(place / "start.py"),
        "PYTHONUSERBASE": str(place),
        "PYTHONHOME": str(place),
        "PYTHONINSPECT": "1",
        "LD_PRELOAD": str(place / "x.so"),
        "LD_LIBRARY_PATH": str(place),
        "BASH_ENV": str(place / "start.py"),
        "OS_PRIVSEP__USER": "daemon",
        "HOME": str(place),
    }
    control = execute(sys.executable, "-c", "", env={"PYTHONPATH": str(place)})
    assert control.returncode == 0
    assert ran.exists(), "this would not show anything"
    ran.unlink()
    command = ("sudo", "-n", *pinned(place))
    env = {k: v for k, v in hostile.items() if k != "PYTHONHOME"}
    for tried in (hostile, env):
        execute(*as_user(host.SERVICE_USER), *command, env=tried)
    said = execute(
        *as_user(host.SERVICE_USER), "sudo", "-nE", *pinned(place), env=env
    )
    assert said.returncode == 1
    assert not ran.exists(), ran.read_text()


# ------------------------------------------------------------ capabilities


# What fails without it, and how it shows. A capability that is not here
# has not been shown to be needed.
NEEDED = {
    capabilities.CAP_NET_ADMIN: ("apply", "Operation not permitted"),
    capabilities.CAP_SYS_ADMIN: ("apply", "unshare: Operation not permitted"),
    capabilities.CAP_CHOWN: ("make_folders", "Operation not permitted"),
}
GOOD = {"apply": "done", "make_folders": "done"}


@pytest.fixture
def fresh(box: Sandbox) -> Iterator[str]:
    """Give a network that nobody knows.

    The agent stands still meanwhile: a resync would remove what it has no
    rows for.
    """
    network = str(uuid.uuid4())
    os.kill(box.agent.pid, signal.SIGSTOP)
    try:
        yield network
        run_calls(network, CAPABILITIES)
    finally:
        os.kill(box.agent.pid, signal.SIGCONT)


def run_calls(network: str, kept: tuple[int, ...]) -> dict[str, str]:
    """Return what becomes of calls of root's with the capabilities KEPT."""
    names = [capabilities.Capabilities(each).name for each in kept]
    words = ["-all", *(f"+{n.lower().removeprefix('cap_')}" for n in names)]
    said = execute(
        *("setpriv", f"--bounding-set={','.join(words)}"),
        *(sys.executable, "-I", "-c", CALLS),
        privileged_calls.WITH_CAPABILITIES,
        stdin=json.dumps([network, CONFIG]),
        env={"SUDO_UID": str(host.ids(host.SERVICE_USER)[0])},
    )
    assert said.returncode == 0, said.stderr
    found: dict[str, str] = json.loads(said.stdout)
    return found


def test_with_its_capabilities_all_is_done(fresh: str):
    assert run_calls(fresh, CAPABILITIES) == GOOD


@pytest.mark.parametrize(
    "number",
    CAPABILITIES,
    ids=[capabilities.Capabilities(each).name for each in CAPABILITIES],
)
def test_without_one_capability_something_fails(fresh: str, number: int):
    """By the calls that the agent makes to provision a network."""
    kept = tuple(each for each in CAPABILITIES if each != number)
    call, why = NEEDED[capabilities.Capabilities(number)]
    said = run_calls(fresh, kept)
    assert why in said[call]
    assert {k: v for k, v in said.items() if k != call} == {
        k: v for k, v in GOOD.items() if k != call
    }


# ------------------------------------------------------------------- size


# Lines, of all that the daemon loads of ours; to read in one sitting.
MOST_LINES = 3_703
LOADED = r"""
import importlib, pathlib, sys
from ovn_metadata import privsep
import ovn_metadata.privsep.daemon
for folder in map(pathlib.Path, privsep.__path__):
    for file in folder.rglob("*.py"):
        if "\n@entrypoint" in file.read_text():
            parts = file.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join((privsep.__name__, *parts)))
assert "pyroute2" not in sys.modules  # so the agent does not load it either
import ovn_metadata.privsep.namespace.links
print(*(
    module.__file__
    for name, module in sys.modules.items()
    if name.startswith("ovn_metadata") and getattr(module, "__file__", None)
))
"""


def test_what_the_daemon_can_load_is_little():
    """It is all that runs with the daemon's capabilities."""
    said = execute(sys.executable, "-I", "-c", LOADED)
    assert said.returncode == 0, said.stderr
    files = [Path(name) for name in said.stdout.split()]
    assert not [file for file in files if "/agent/" in str(file)]
    loaded = {f"{file.parent.name}/{file.name}" for file in files}
    assert {"fleet/calls.py", "namespace/links.py"} <= loaded
    counts = [len(file.read_text().splitlines()) for file in files]
    assert sum(counts) <= MOST_LINES


EVENTLET = """
import sys, types, warnings
warnings.warn("\\nEventlet is deprecated.", DeprecationWarning, stacklevel=2)
patcher = sys.modules["eventlet.patcher"] = types.ModuleType("patcher")
patcher.original, patcher.is_monkey_patched = __import__, lambda _: False
"""
# What privsep-helper loads first; as sudo's rule starts it.
BY_ROOTWRAP = """
import os, sys
from ovn_metadata.privsep import rootwrap
from oslo_rootwrap import cmd
code = "import oslo_privsep.daemon"
cmd.main = lambda: os.execv(sys.executable, [sys.executable, "-c", code])
rootwrap.main()
"""


@pytest.mark.parametrize(
    ("code", "warns"),
    [
        pytest.param("import oslo_privsep.daemon", True, id="the library"),
        pytest.param("import ovn_metadata.privsep.daemon", False, id="unit"),
        pytest.param("import ovn_metadata.agent.main", False, id="agent"),
        pytest.param(BY_ROOTWRAP, False, id="sudo"),
    ],
)
def test_eventlets_warning_reaches_no_operator(tmp_path, code, warns):
    (tmp_path / "eventlet.py").write_text(EVENTLET)
    env = {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "default"}
    done = execute(sys.executable, "-c", code, env=env)
    assert done.returncode == 0, done.stderr
    assert ("Eventlet is deprecated" in done.stderr) is warns


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "theirs", ["container-1", f"ovnmeta-{uuid.UUID(int=1)}"]
)
@pytest.mark.parametrize(
    "half", [True, False], ids=["no namespace", "complete"]
)
def test_veth_of_somebody_elses_is_left_alone(fresh: str, theirs, half):
    """It has one of our names; its alias says that it is not ours."""
    outer, namespace = f"tap{fresh[:10]}0", f"ovnmeta-{fresh}"
    inner = ("peer", "name", f"tap{fresh[:10]}1")
    if not half:
        run("ip", "netns", "add", namespace)
        inner += ("netns", namespace)
    run("ip", "link", "add", outer, "type", "veth", *inner)
    run("ip", "link", "set", outer, "alias", theirs)
    try:
        before = run("ip", "-d", "link", "show", outer)
        said = run_calls(fresh, CAPABILITIES)["apply"]
        assert "LinkError" in said
        assert theirs in said
        assert run("ip", "-d", "link", "show", outer) == before
    finally:
        run("ip", "link", "delete", outer)


def state_of_the_host() -> dict[str, object]:
    """Return what a call could have touched."""
    found: dict[str, object] = {
        "namespaces": run("ip", "netns"),
        "links": run("ip", "-o", "-d", "link"),
        "root's": sorted(Path("/root").iterdir()),
    }
    roots = (host.HOME, FLEET, Path("/etc"), Path("/run/netns"))
    for root in roots:
        for path in (root, *root.rglob("*")):
            entry = path.lstat()
            # What is written all the time: a log's size and times.
            log = path.is_relative_to(FLEET / "log")
            found[str(path)] = (
                *(entry.st_mode, entry.st_uid, entry.st_gid, entry.st_ino),
                *((entry.st_size, entry.st_mtime_ns) if not log else ()),
            )
    return found


def known_to_the_host() -> set[str]:
    """Return the networks (and "gateway") that have anything here."""
    found = set()
    for name in ("config", "read", "work", "programs"):
        found |= {each.stem for each in (FLEET / name).iterdir()}
    spaces = Path("/run/netns").glob("ovnmeta-*")
    return found | {each.name.removeprefix("ovnmeta-") for each in spaces}


def settled_state(networks: set[str]) -> dict[str, object]:
    """Return `state_of_the_host` once NETWORKS alone are here, and done.

    What an earlier test had may have to go yet.
    """
    seen: list[dict[str, object]] = [{}]

    def is_still() -> bool:
        seen.append(state_of_the_host())
        known = {*status()["networks"]}
        return networks == known_to_the_host() == known and (
            seen[-1] == seen[-2]
        )

    wait_for(is_still, timeout_s=120, interval_s=1, what="a host at rest")
    return seen[-1]


def test_hostile_arguments_touch_nothing(box: Sandbox, case: Case, place):
    """Through a daemon of the real kind, called as the agent calls it."""
    network = case.network("fuzz")
    case.instance(network)
    before = settled_state({network.id, "gateway"})
    pids = [each.pid for each in box.agent.processes("haproxy")]
    helper = ["sudo", "-n", *pinned(place)[:5]]
    said = execute(
        *as_user(host.SERVICE_USER),
        *(sys.executable, "-I", "-c", CALLS, "hostile"),
        stdin=json.dumps([network.id, str(host.HOME), " ".join(helper)]),
    )
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout)
    assert not result["wrong"], "\n".join(result["wrong"])
    assert result["calls"] > 1000
    assert network.id in result["networks"]
    assert result["same daemon"]
    assert state_of_the_host() == before
    assert [each.pid for each in box.agent.processes("haproxy")] == pids
