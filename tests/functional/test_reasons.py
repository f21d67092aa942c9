"""What agent-status and the log say of what fails, and how often."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ovn_metadata.agent.reconcile.network import _LOST_S as LOST_S
from sandbox import Instance, Network, Sandbox, host, wait_for
from sandbox.agent import CONFIG
from sandbox.case import Case, wait_served
from sandbox.daemons import run
from sandbox.processes import processes, send_signal
from sandbox.sockets import status

LIMIT = "rate_limit_enabled"


@pytest.fixture(scope="module")
def instance(module_box: Sandbox) -> Instance:
    case = Case(module_box)
    return case.instance(case.network())


def kill(key: str) -> None:
    """Kill KEY's haproxy once supervisord counts its start as good."""
    found = [
        process.pid
        for process in processes("haproxy")
        if Path(process.cmdline[-1]).stem == key
    ]
    wait_for(
        lambda: time.time() - psutil.Process(found[0]).create_time() > 3,
        timeout_s=20,
        what="one that has run for a while",
    )
    for pid in found:
        send_signal(pid, signal.SIGKILL)


@contextlib.contextmanager
def no_library(_key: str) -> Iterator[None]:
    """Have a library of haproxy's missing, for new processes."""
    said = subprocess.check_output(["ldd", "/usr/sbin/haproxy"], text=True)
    (file,) = [word for word in said.split() if "/liblua" in word]
    run("mount", "--bind", "/dev/null", file)
    yield
    run("umount", file)


@contextlib.contextmanager
def no_stats_socket(key: str) -> Iterator[None]:
    """Have something else in the place of haproxy's socket."""
    socket = host.stats_of(key)
    socket.unlink()
    socket.mkdir()
    yield
    socket.rmdir()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(no_library, "liblua"), (no_stats_socket, "previous UNIX socket")],
)
def test_why_a_haproxy_does_not_start(module_box, instance, broken, reason):
    """Always the same reason, and one line of the log for it."""
    box, key = module_box, instance.port.network.id
    mark, before = box.agent.mark(), status()["networks"][key]["failures"]
    reasons = set()

    def has_failed() -> bool:
        entry = status()["networks"][key]
        reasons.add(entry["error"])
        return entry["failures"] >= before + 4

    with broken(key):
        kill(key)
        wait_for(has_failed, timeout_s=90, what="four failures")
    (said,) = reasons - {""}
    assert "ends right after its start" in said
    assert reason in said
    lines = box.agent.log(mark).splitlines()
    assert len([line for line in lines if " ERROR " in line]) == 1
    wait_served(instance, timeout_s=60)
    box.agent.wait_ready()


# -- a network whose instances get nothing ------------------------------------


def lose_localport(box: Sandbox, network: Network) -> None:
    box.neutron.delete_port(network.metadata)


def restore_localport(box: Sandbox, network: Network) -> None:
    box.neutron.restore_metadata_port(network)


def lose_addresses(box: Sandbox, network: Network) -> None:
    box.ovn.nbctl("lsp-set-addresses", network.metadata.id)


def restore_addresses(box: Sandbox, network: Network) -> None:
    box.neutron.update_port(network.metadata)


@pytest.mark.parametrize(
    ("lose", "restore"),
    [(lose_localport, restore_localport), (lose_addresses, restore_addresses)],
)
def test_a_network_without_its_localport_is_named(module_box, lose, restore):
    """Its instances get nothing; once it is back all is well."""
    box, case = module_box, Case(module_box)
    network = case.network("lost")
    instance = case.instance(network)
    mark = box.agent.mark()
    lose(box, network)
    failed = f"{network.id}: FAILED: 1 ports here get no metadata"
    wait_for(
        lambda: failed in box.agent.status().stdout,
        timeout_s=40,
        what="a network that is not served",
    )
    said = box.agent.status()
    assert "neutron-ovn-db-sync-util" in said.stdout
    assert said.returncode == 3
    before = status()["networks"][network.id]["failures"]
    wait_for(
        lambda: status()["networks"][network.id]["failures"] > before,
        timeout_s=30,
        what="another try",
    )
    assert box.agent.log(mark).count("get no metadata") == 1
    restore(box, network)
    # A guest finds out by itself, within a minute.
    instance.execute("ip", "neighbour", "flush", "dev", "eth0")
    wait_served(instance)
    assert box.agent.status().returncode == 0
    case.close()


def test_a_network_that_is_deleted_is_no_problem(module_box):
    """Neutron deletes the localport's row first."""
    box, case = module_box, Case(module_box)
    network = case.network("gone")
    instance = case.instance(network)
    mark = box.agent.mark()
    box.neutron.delete_port(network.metadata)
    wait_for(
        lambda: network.id not in status()["networks"],
        timeout_s=20,
        what="the teardown",
    )
    box.unplug([instance])
    case.close()
    ends = time.monotonic() + 1.5 * LOST_S
    while time.monotonic() < ends:
        assert network.id not in status()["networks"]
        assert box.agent.status().returncode == 0
    assert " ERROR " not in box.agent.log(mark)


# -- who is over the rate limit -----------------------------------------------


def test_requests_over_the_rate_limit_are_counted(module_box, instance):
    """By network and for the whole host; the instance is named."""
    box, key = module_box, instance.port.network.id
    limits = {
        ("metadata_rate_limiting", name): value
        for name, value in {
            "rate_limit_enabled": "true",
            "base_query_rate_limit": "3",
            "base_window_duration": "60",
        }.items()
    }
    before = status()["networks"][key]["digest"]
    box.agent.configure(limits)
    box.agent.reload()
    wait_for(
        lambda: status()["networks"][key]["digest"] != before,
        timeout_s=30,
        what="the limit",
    )
    codes = [instance.fetch().status for _ in range(8)]
    assert codes.count(429) >= 5
    entry = wait_for(
        lambda: (entry := status()["networks"][key])["over_share"] and entry,
        timeout_s=20,
        what="the instance's name",
    )
    assert entry["over_share"] == [instance.instance_id]
    assert entry["shares"]["rate_limited_requests"] == codes.count(429)
    said = box.agent.status().stdout
    assert f"{codes.count(429)} requests over metadata_rate_limiting" in said
    assert f"{codes.count(429)} rate limited requests" in said
    box.agent.configure({("metadata_rate_limiting", LIMIT): "false"})
    box.agent.reload()
    wait_served(instance)


# -- agent-status itself ------------------------------------------------------


@pytest.mark.parametrize("groups", [(), (host.SERVICE_USER,)])
def test_status_for_a_user_who_may_not_read_the_secret(module_box, groups):
    """The default socket is asked; its mode decides who may ask."""
    box = module_box
    ids = [str(host.ids(name)[1]) for name in groups]
    CONFIG.chmod(0o600)
    command = ["setpriv", "--reuid=65534", "--regid=65534"]
    command += [f"--groups={','.join(ids)}"] if ids else ["--clear-groups"]
    program = Path(sys.executable).with_name("agent-status")
    command += [str(program), *box.agent.config_arguments()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    CONFIG.chmod(0o640)
    if groups:
        assert (done.returncode, done.stderr) == (0, "")
        assert "gateway: serves" in done.stdout
    else:
        assert done.returncode == 1
        assert "Permission denied; only root and the agent's" in done.stderr
        assert f"{CONFIG.parent}/" in done.stderr
