"""What agent-status and the log say of what fails, and how often."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ovn_metadata.agent.reconcile.network import _LOST_S as LOST_S
from sandbox import Instance, Network, Sandbox, cgroups, host, wait_for
from sandbox.agent import CONFIG, Mark
from sandbox.case import Case, wait_served
from sandbox.continuity import pause
from sandbox.daemons import run
from sandbox.hoststate import haproxies
from sandbox.processes import send_signal, sole
from sandbox.sockets import network_status, status

LIMIT = "rate_limit_enabled"
SLOW = "its haproxy does not answer with its new configuration"

# Breaks what the haproxy of a network needs to start.
Broken = Callable[[str], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
def instance(module_box: Sandbox) -> Instance:
    case = Case(module_box)
    return case.instance(case.network())


def wait_run(box: Sandbox, key: str) -> None:
    """Wait until supervisord counts the start of KEY's haproxy as good."""

    def has_run() -> bool:
        pids = haproxies(box, key)
        try:
            begun = [psutil.Process(pid).create_time() for pid in pids]
        except psutil.NoSuchProcess:  # it ended just now
            return False
        return bool(begun) and time.time() - max(begun) > 3

    # supervisord may still wait before the next start.
    wait_for(has_run, timeout_s=120, what="one that has run for a while")


def kill(box: Sandbox, key: str) -> None:
    for pid in haproxies(box, key):
        send_signal(pid, signal.SIGKILL)


@contextlib.contextmanager
def no_library(_key: str) -> Iterator[None]:
    """Have a library of haproxy's missing, for new processes."""
    said = subprocess.check_output(["ldd", "/usr/sbin/haproxy"], text=True)
    (file,) = [word for word in said.split() if "/liblua" in word]
    run("mount", "--bind", "/dev/null", file)
    try:
        yield
    finally:
        run("umount", file)


@contextlib.contextmanager
def no_stats_socket(key: str) -> Iterator[None]:
    """Have something else in the place of haproxy's socket."""
    socket = host.stats_of(key)
    socket.unlink()
    socket.mkdir()
    try:
        yield
    finally:
        socket.rmdir()


@contextlib.contextmanager
def no_process(_key: str) -> Iterator[None]:
    """Have supervisord start no process, as in a container with a limit."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cgroups.no_process(sole("supervisord").pid))
        except cgroups.NoLimitError as error:
            pytest.skip(str(error))
        yield


def fail(
    box: Sandbox, instance: Instance, broken: Broken
) -> tuple[set[str], list[str]]:
    """Let INSTANCE's haproxy fail four times; return reasons and errors.

    The errors are lines of the log. Returns once it is served again.
    """
    key = instance.port.network.id
    mark, before = box.agent.mark(), network_status(key)["failures"]
    reasons = set()

    def has_failed() -> bool:
        entry = network_status(key)
        reasons.add(entry["error"])
        return entry["failures"] >= before + 4

    # Before that: the agent would find what is broken, and replace it.
    wait_run(box, key)
    with broken(key):
        kill(box, key)
        wait_for(has_failed, timeout_s=180, what="four failures")
        lines = box.agent.log(mark).splitlines()
    wait_served(instance, timeout_s=120)
    box.agent.wait_ready(timeout_s=120)
    return reasons - {""}, [line for line in lines if " ERROR " in line]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (no_library, "its log says: .*liblua"),
        (no_stats_socket, "its log says: .*previous UNIX socket"),
        (no_process, "supervisord says: Too many processes"),
    ],
)
def test_why_a_haproxy_does_not_start(module_box, instance, broken, reason):
    """Always the same reason, and one line of the log for it."""
    for _ in range(3):
        reasons, errors = fail(module_box, instance, broken)
        # On a slow machine a start may take so long that this is said first,
        # or it is seen that it was killed.
        is_slow = any(SLOW in text for text in (*reasons, *errors))
        if len(reasons) == 1 and not is_slow:
            break
    (said,) = reasons
    assert "ends right after its start" in said
    assert re.search(reason, said)
    assert len(errors) == 1


# -- a network whose instances get nothing ------------------------------------


def lose_localport(box: Sandbox, network: Network) -> None:
    box.neutron.delete_port(network.metadata)


def restore_localport(box: Sandbox, network: Network) -> None:
    box.neutron.restore_metadata_port(network)


def lose_addresses(box: Sandbox, network: Network) -> None:
    box.ovn.nbctl("lsp-set-addresses", network.metadata.id)


def assert_logged_once(box: Sandbox, mark: Mark, words: str) -> None:
    """See that WORDS are logged since MARK: the status has them before."""
    wait_for(
        lambda: words in box.agent.log(mark), timeout_s=60, what=f"{words!r}"
    )
    assert box.agent.log(mark).count(words) == 1


def restore_addresses(box: Sandbox, network: Network) -> None:
    box.neutron.update_port(network.metadata)


@pytest.mark.parametrize(
    ("lose", "restore"),
    [(lose_localport, restore_localport), (lose_addresses, restore_addresses)],
)
def test_a_network_without_its_localport_is_named(module_box, lose, restore):
    """Its instances get nothing; once it is back all is well."""
    box, case = module_box, Case(module_box)
    with contextlib.closing(case):
        network = case.network("lost")
        instance = case.instance(network)
        mark = box.agent.mark()
        lose(box, network)
        failed = re.compile(
            rf"{network.id} \(lost\): FAILED for .*, OVNMD-201: 1 ports here "
            rf"get no metadata"
        )
        wait_for(
            lambda: failed.search(box.agent.status().stdout),
            timeout_s=90,
            what="a network that is not served",
        )
        said = box.agent.status()
        assert "neutron-ovn-db-sync-util" in said.stdout
        assert said.returncode == 3
        before = network_status(network.id)["failures"]
        wait_for(
            lambda: network_status(network.id)["failures"] > before,
            timeout_s=90,
            what="another try",
        )
        assert_logged_once(box, mark, "get no metadata")
        restore(box, network)
        # A guest finds out by itself, within a minute.
        instance.execute("ip", "neighbour", "flush", "dev", "eth0")
        wait_served(instance)
        # Served already by the map; then the agent compares all else.
        wait_for(
            lambda: box.agent.status().returncode == 0,
            timeout_s=90,
            what="a status without the problem",
        )


def delete(box: Sandbox) -> tuple[str, float]:
    """Delete a network in Neutron's order; return its id and the seconds.

    These are from its teardown until its only port is unbound.
    """
    case = Case(box)
    with contextlib.closing(case):
        network = case.network("gone")
        instance = case.instance(network)
        network_status(network.id)  # else it would be noted afterwards
        box.neutron.delete_port(network.metadata)
        wait_for(
            lambda: network.id not in status()["networks"],
            timeout_s=60,
            what="the teardown",
        )
        begun = time.monotonic()
        box.unplug([instance])
        unbound = [
            ["logical_port", "==", instance.port.id],
            ["chassis", "==", ["set", []]],
        ]
        wait_for(
            lambda: box.ovn.sb.select("Port_Binding", unbound, ["_uuid"]),
            timeout_s=60,
            what="a port without a chassis",
        )
        return network.id, time.monotonic() - begun


def test_a_network_that_is_deleted_is_no_problem(module_box):
    """Neutron deletes the localport's row first."""
    box = module_box
    for _ in range(5):
        box.agent.wait_ready()
        mark = box.agent.mark()
        key, seconds = delete(box)
        # Later it would be a problem.
        if seconds < LOST_S / 2:
            break
    assert seconds < LOST_S / 2, "the machine is too slow for this test"
    ends = time.monotonic() + 1.5 * LOST_S
    while time.monotonic() < ends:
        now = status()
        assert key not in now["networks"]
        # A busy machine may have others: Nova may be slow.
        of_networks = [p for p in now["problems"] if p["code"] < "OVNMD-300"]
        assert of_networks == []
        pause(0.1)
    lines = box.agent.log(mark).splitlines()
    assert not [line for line in lines if " ERROR " in line and key in line]


# -- who is over the rate limit -----------------------------------------------


@contextlib.contextmanager
def limited(box: Sandbox, instance: Instance) -> Iterator[None]:
    """Have a limit of three requests in a minute."""
    key = instance.port.network.id
    limits = {
        ("metadata_rate_limiting", name): value
        for name, value in {
            LIMIT: "true",
            "base_query_rate_limit": "3",
            "base_window_duration": "60",
        }.items()
    }
    before = network_status(key)["digest"]
    box.agent.configure(limits)
    try:
        box.agent.reload()
        wait_for(
            lambda: network_status(key)["digest"] != before,
            timeout_s=60,
            what="the limit",
        )
        # Until it finishes, the one before takes some, and limits nothing.
        wait_for(
            lambda: len(haproxies(box, key)) == 1, timeout_s=120, what="one"
        )
        yield
    finally:
        box.agent.configure({("metadata_rate_limiting", LIMIT): "false"})
        box.agent.reload()
        wait_served(instance)


def test_requests_over_the_rate_limit_are_counted(module_box, instance):
    """By network and for the whole host; the instance is named."""
    box, key = module_box, instance.port.network.id
    with limited(box, instance):
        codes = [instance.fetch().status for _ in range(8)]
        count = codes.count(429)
        assert count >= 5

        def counted() -> int:
            shares = network_status(key)["shares"]
            return int(shares.get("rate_limited_requests", 0))

        # The agent may have looked between two of the requests.
        wait_for(lambda: counted() >= count, timeout_s=60, what="all requests")
        assert counted() == count
        entry = network_status(key)
        assert entry["over_share"] == [instance.instance_id]
        said = box.agent.status().stdout
        assert f"{count} requests over metadata_rate_limiting" in said
        assert f"{count} rate limited requests" in said


# -- agent-status itself ------------------------------------------------------


def run_status(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("groups", [(), (host.SERVICE_USER,)])
def test_status_for_a_user_who_may_not_read_the_secret(module_box, groups):
    """The default socket is asked; its mode decides who may ask."""
    box = module_box
    ids = [str(host.ids(name)[1]) for name in groups]
    command = ["setpriv", "--reuid=65534", "--regid=65534"]
    command += [f"--groups={','.join(ids)}"] if ids else ["--clear-groups"]
    program = Path(sys.executable).with_name("agent-status")
    command += [str(program), *box.agent.config_arguments()]
    CONFIG.chmod(0o600)
    try:
        done = wait_for(
            # An agent that is busy is said to hang.
            lambda: (
                "hangs" not in (said := run_status(command)).stderr and said
            ),
            timeout_s=60,
            what="an answer",
        )
    finally:
        CONFIG.chmod(0o640)
    if groups:
        # 5: the test before has left an instance that is over its share.
        assert done.returncode in (0, 5)
        assert done.stderr == ""
        assert "gateway: serves" in done.stdout
    else:
        assert done.returncode == 1
        assert "Permission denied; only root and the agent's" in done.stderr
        assert f"{CONFIG.parent}/" in done.stderr
