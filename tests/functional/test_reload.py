"""SIGHUP: the configuration is read again, and nobody notices."""

from __future__ import annotations

import hmac
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Nova, Sandbox, host, wait_for
from sandbox.case import is_served, wait_served
from sandbox.continuity import pause
from sandbox.files import put
from sandbox.sockets import stats, status

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
NOVA_HOST = ("DEFAULT", "nova_metadata_host")
SECRET = ("DEFAULT", "metadata_proxy_shared_secret")
DEBUG = ("DEFAULT", "debug")
LIMITS = "metadata_rate_limiting"
BURST_S = 5
NO_LIMIT = {(LIMITS, "rate_limit_enabled"): "false"}


class Chassis:
    """Two networks, an instance each, and the agent's reloads."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        networks = [
            box.neutron.create_network(name, subnets=SUBNETS) for name in "ab"
        ]
        self.keys = [network.id for network in networks]
        self.instances = box.plug(
            [box.neutron.create_port(network) for network in networks]
        )
        for instance in self.instances:
            wait_served(instance)

    def reload(self, options: Mapping[tuple[str, str], str]) -> str:
        """Change OPTIONS and reload; return what the log says of it.

        When all is looked at with the new ones, if they are good.
        """
        agent = self.box.agent
        before, looked = agent.mark(), self._reconciles()
        agent.configure(options)
        agent.reload()

        def said() -> str:
            log = agent.log(before)
            return log if "reloaded" in log else ""

        log = wait_for(said, timeout_s=60, what="a word about the reload")
        if "not reloaded" not in log:
            wait_for(
                lambda: all(
                    count > looked[key]
                    for key, count in self._reconciles().items()
                ),
                timeout_s=60,
                what="a look at everything",
            )
        return agent.log(before)

    def _reconciles(self) -> dict[str, int]:
        """Return how often each was reconciled: the gateway may be twice."""
        told = status()["networks"]
        keys = (*self.keys, "gateway")
        return {
            key: told[key]["reconciles"] if key in told else 0 for key in keys
        }

    @property
    def secret(self) -> str:
        """The secret that the agent signs with."""
        return self.box.agent.options.get(SECRET, self.box.nova.secret)

    def haproxies(self) -> dict[str, set[int]]:
        """Return the PIDs of each haproxy, by network or gateway."""
        found: dict[str, set[int]] = {}
        for process in self.box.agent.processes("haproxy"):
            key = re.search(r"([\w-]+)\.conf", " ".join(process.cmdline))
            assert key is not None
            found.setdefault(key[1], set()).add(process.pid)
        return found


@pytest.fixture(scope="module")
def chassis(module_box) -> Chassis:
    return Chassis(module_box)


def get(instance: Instance, *, ipv6: bool = False) -> tuple[int, str]:
    """Return the status and Retry-After of one more request."""
    answer = instance.fetch(ipv6=ipv6)
    return answer.status, answer.headers.get("Retry-After", "")


# ---------------------------------------------------------- rate limits


def limited(instance: Instance, *, ipv6: bool = False) -> bool:
    return get(instance, ipv6=ipv6)[0] == 429


@pytest.fixture
def unlimited(chassis):
    """Provide the chassis, without limits again in the end."""
    yield chassis
    chassis.reload(NO_LIMIT)
    for instance in chassis.instances:
        wait_served(instance)


def _one_each(chassis: Chassis) -> dict[str, set[int]]:
    """Return the PIDs of all haproxies, when those before have ended."""

    def found() -> dict[str, set[int]]:
        each = chassis.haproxies()
        return each if all(len(pids) == 1 for pids in each.values()) else {}

    return wait_for(found, timeout_s=120, what="end of the old ones")


def _wait_config(chassis: Chassis, *words: str) -> None:
    """Wait until the networks' haproxies run on a configuration with WORDS.

    One that was looked at just before the reload may have the old one yet.
    """

    def is_so() -> bool:
        told = status()["networks"]
        return all(
            word in text
            for key in chassis.keys
            for text in [host.config_of(key).read_text()]
            for word in (told[key]["digest"], *words)
        )

    wait_for(is_so, timeout_s=60, what=f"{words} in the configurations")


def limit(chassis: Chassis, **options: object) -> None:
    """Set the limits to OPTIONS."""
    chassis.reload(
        {(LIMITS, "rate_limit_enabled"): "true"}
        | {(LIMITS, name): str(value) for name, value in options.items()}
    )
    window = f"gpc0_rate({options['base_window_duration']}s)"
    _wait_config(chassis, window)
    # An old one takes a connection yet before it hears that it ends.
    _one_each(chassis)


@pytest.mark.parametrize(
    ("versions", "v4", "v6"),
    [("4", True, False), ("6", False, True), ("4,6", True, True)],
)
def test_rate_limit_by_ip_version(unlimited, versions, v4, v6):
    """The one request too many is a 429 that says when to come back."""
    limit(
        unlimited,
        ip_versions=versions,
        base_window_duration=601,
        base_query_rate_limit=5,
        burst_window_duration=600,
        burst_query_rate_limit=1000,
    )
    first, second = unlimited.instances
    for ipv6, is_limited in ((False, v4), (True, v6)):
        answers = [get(first, ipv6=ipv6) for _ in range(8)]
        good, refused = [(200, "")], [(429, "601")]
        expected = good * 5 + refused * 3 if is_limited else good * 8
        assert answers == expected, f"IPv6: {ipv6}"
    # Nobody else is any the worse for it.
    assert [get(second, ipv6=six)[0] for six in (False, True)] == [200, 200]


def test_burst_is_limited_and_passes(unlimited):
    """Three at once at most; some seconds later more, however it asked."""
    limit(
        unlimited,
        ip_versions="4",
        base_window_duration=602,
        base_query_rate_limit=1000,
        burst_window_duration=BURST_S,
        burst_query_rate_limit=3,
    )
    warning = f"[{LIMITS}] burst_query_rate_limit = 3: less than the 28 "
    assert warning in unlimited.box.agent.log()
    first = unlimited.instances[0]
    for _ in range(5):
        begun = time.monotonic()
        answers = [get(first) for _ in range(5)]
        if time.monotonic() - begun < BURST_S / 2:
            break
        pause(3 * BURST_S)  # they were not at once
    assert answers == [(200, "")] * 3 + [(429, str(BURST_S))] * 2
    wait_for(lambda: not limited(first), timeout_s=60, what="an answer again")


# -------------------------------------------------------------- reloads


def _signatures(chassis: Chassis) -> set[str]:
    """Return those that the networks' haproxies sign with."""
    maps = [stats(key, f"show map {host.map_of(key)}") for key in chassis.keys]
    lines = "".join(maps).splitlines()
    return {line.rpartition("|")[2] for line in lines if "|" in line}


def test_secret_is_rotated_without_a_failed_request(chassis):
    """Nova takes both for a while; no haproxy is reloaded."""
    box = chassis.box
    old, new = chassis.secret, "another secret"
    signatures = {
        hmac.digest(new.encode(), i.instance_id.encode(), "sha256").hex()
        for i in chassis.instances
    }
    before = _one_each(chassis)
    box.nova.accept(old, new)
    with Loader(chassis.instances, rate=200) as load:
        chassis.reload({SECRET: new})
        wait_for(
            lambda: _signatures(chassis) == signatures,
            timeout_s=60,
            what="the new signatures",
        )
        for _ in ("both are taken", "the new one only"):
            asked = load.requests
            wait_for(
                lambda n=asked: load.requests > n + 50,
                timeout_s=60,
                what="requests",
            )
            box.nova.accept(new)
    maps = [host.map_of(key).read_text() for key in chassis.keys]
    assert signatures == {
        line.rpartition("|")[2] for line in "".join(maps).splitlines()
    }
    assert load.failures == []
    assert chassis.haproxies() == before
    assert new not in box.agent.log()


def test_novas_address_changes_without_a_failed_request(chassis):
    """The gateway is reloaded, the networks' haproxies are not."""
    box = chassis.box
    before = _one_each(chassis)
    with Nova(box.folder, port=8777) as other:
        other.accept(chassis.secret)
        for instance in chassis.instances:
            other.register(instance.instance_id, instance.port.project_id)
        with Loader(chassis.instances, rate=100) as load:
            chassis.reload({NOVA_HOST: "127.0.0.1:8777"})
            wait_for(
                lambda: other.requests > 50, timeout_s=60, what="requests"
            )
            chassis.reload({NOVA_HOST: "127.0.0.1"})
            known = box.nova.requests
            wait_for(
                lambda: box.nova.requests > known + 50,
                timeout_s=60,
                what="requests at the first one again",
            )
        assert load.failures == []
    after = chassis.haproxies()
    for key in chassis.keys:
        assert after[key] == before[key], key


def test_name_of_nova_is_looked_up_again(chassis):
    """By whatever this host looks names up: here /etc/hosts."""
    hosts = Path("/etc/hosts")
    text = hosts.read_text()
    box = chassis.box
    with Nova(box.folder, address="127.0.0.2", port=8778) as other:
        other.accept(chassis.secret)
        for instance in chassis.instances:
            other.register(instance.instance_id, instance.port.project_id)
        put(hosts, f"{text}\n127.0.0.2 nova.example\n")
        try:
            chassis.reload(
                {
                    NOVA_HOST: "nova.example:8778",
                    ("ovn_metadata_agent", "resolve_interval"): "1",
                }
            )
            wait_for(
                lambda: (
                    chassis.instances[0].fetch().status == 200
                    and other.requests > 0
                ),
                timeout_s=60,
                what="answers of the named one",
            )
            other.stop()
            with Nova(box.folder, address="127.0.0.3", port=8778) as third:
                third.accept(chassis.secret)
                for instance in chassis.instances:
                    third.register(
                        instance.instance_id, instance.port.project_id
                    )
                put(hosts, f"{text}\n127.0.0.3 nova.example\n")
                for instance in chassis.instances:
                    wait_served(instance)
                assert third.requests > 0
                # A name that is gone leaves what was known of it.
                put(hosts, text)
                chassis.reload({})
                assert "gateway: serves" in box.agent.status().stdout
                assert chassis.instances[0].fetch().status == 200
                # After a reboot too, and then it is said.
                box.agent.stop()
                box.agent.stop_fleet()
                box.agent.start()
                for instance in chassis.instances:
                    wait_served(instance)
                wait_for(
                    lambda: "can't be looked up" in box.agent.status().stdout,
                    timeout_s=60,
                    what="a word about the name",
                )
                # Even if somebody has edited the gateway's file.
                box.agent.stop()
                with host.config_of("gateway").open("a") as config:
                    config.write("# edited\n")
                with Loader(chassis.instances, rate=20) as load:
                    box.agent.start()
                    wait_for(
                        lambda: (
                            "can't be looked up" in box.agent.status().stdout
                        ),
                        timeout_s=60,
                        what="a word about the name",
                    )
                assert load.failures == []
        finally:
            put(hosts, text)
            chassis.reload({NOVA_HOST: "127.0.0.1"})
    for instance in chassis.instances:
        wait_served(instance)


def test_nova_is_reached_by_ipv6(chassis):
    """A literal address in brackets, with its port."""
    box = chassis.box
    with Nova(box.folder, address="::1", port=8779) as other:
        other.accept(chassis.secret)
        for instance in chassis.instances:
            other.register(instance.instance_id, instance.port.project_id)
        chassis.reload({NOVA_HOST: "[::1]:8779"})
        # A gateway that ends takes a request yet, for the first Nova.
        wait_for(
            lambda: is_served(chassis.instances[0]) and other.requests > 0,
            timeout_s=60,
            what="an answer of the one with IPv6",
        )
        chassis.reload({NOVA_HOST: "127.0.0.1"})
    wait_served(chassis.instances[0])


def test_timeouts_are_haproxys(chassis):
    """All five; and one that is over ends a request that never came."""
    names = {
        "timeout_connect": ("connect", 11),
        "timeout_client": ("client", 12),
        "timeout_server": ("server", 13),
        "timeout_http_request": ("http-request", 1),
        "timeout_http_keep_alive": ("http-keep-alive", 14),
    }
    before = dict(chassis.box.agent.options)
    chassis.reload(
        {
            ("metadata_haproxy", name): str(seconds)
            for name, (_, seconds) in names.items()
        }
    )
    _wait_config(
        chassis,
        *(f"    timeout {word} {s}s\n" for word, s in names.values()),
    )
    _one_each(chassis)
    with chassis.instances[0].connect(timeout=60) as link:
        link.sendall(b"GET / HTTP/1.1\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 408 ")
    chassis.box.agent.options = before
    chassis.reload({})


def test_log_level_changes(chassis):
    """Debug messages come, and go again."""
    log = chassis.reload({DEBUG: "true"})
    agent = chassis.box.agent
    wait_for(
        lambda: " DEBUG " in agent.log()[-20_000:],
        timeout_s=60,
        what="a message of level DEBUG",
    )
    log = chassis.reload({DEBUG: "false"})
    assert " INFO " in log
    before = agent.mark()
    chassis.reload({})
    assert " DEBUG " not in agent.log(before)


def test_only_what_differs_is_reloaded(chassis):
    """The same files again change nothing; a timeout changes all."""
    before = _one_each(chassis)
    chassis.reload({})
    chassis.reload({})
    assert chassis.haproxies() == before
    with Loader(chassis.instances, rate=100) as load:
        chassis.reload({("metadata_haproxy", "timeout_client"): "37"})
        wait_for(
            lambda: all(
                "timeout client 37s" in host.config_of(key).read_text()
                and not before[key] & chassis.haproxies().get(key, before[key])
                for key in before
            ),
            timeout_s=120,
            what="new ones",
        )
    assert load.failures == []
    after = _one_each(chassis)
    chassis.reload({})
    assert chassis.haproxies() == after


BAD = [
    (("metadata_haproxy", "timeout_client"), "soon", "timeout_client"),
    (DEBUG, "perhaps", "debug"),
    (DEBUG, "$host", 'debug = "$host"'),
    (("DEFAULT", "default_log_levels"), "x", "must be MODULE=LEVEL"),
    (("DEFAULT", "log_config_append"), "/nowhere", "log's other options"),
    (("DEFAULT", "nova_client_cert"), "/nowhere.pem", "nova_client"),
    (SECRET, "", "metadata_proxy_shared_secret is missing"),
]


def is_told(told: subprocess.CompletedProcess[str], words: str) -> bool:
    """Tell whether a configuration that can't be used is told of in WORDS."""
    return (
        told.returncode == 5
        and "OVNMD-406" in told.stdout
        and words in told.stdout
    )


def test_bad_value_keeps_the_old_and_says_so(chassis):
    """In the log and in agent-status, until the next good reload."""
    agent = chassis.box.agent
    before = _one_each(chassis)
    good = dict(agent.options)
    for option, bad, words in BAD:
        log = chassis.reload({option: bad})
        assert "not reloaded, the old one stays" in log
        assert words in log
        # The status has it a moment after the log.
        wait_for(
            lambda w=words: is_told(agent.status(), w),
            timeout_s=60,
            what=f"{words} in agent-status",
        )
        agent.options = dict(good)
    log = chassis.reload({})
    assert "configuration reloaded" in log
    wait_for(
        lambda: (
            not re.search("not reloaded|OVNMD-406|^$", agent.status().stdout)
        ),
        timeout_s=60,
        what="silence again",
    )
    assert chassis.haproxies() == before


def test_what_needs_a_restart_is_named(chassis):
    """It stays as it was, and the operator is told."""
    agent = chassis.box.agent
    option = ("ovn_metadata_agent", "reconcile_workers")
    log = chassis.reload({option: "2"})
    wait_for(
        lambda: "reconcile_workers" in agent.status().stdout,
        timeout_s=60,
        what="a word in agent-status",
    )
    assert "configuration reloaded" in log
    del agent.options[option]
    chassis.reload({})
    wait_for(
        lambda: "reconcile_workers" not in agent.status().stdout,
        timeout_s=60,
        what="silence again",
    )
