"""Call the privileged side: in this process, or by a daemon of its own.

A program by itself, `python -I -c`, fed with JSON:

    kept       as root, with the capabilities that were kept: make the calls
               that provision a network, tell what became of each
    call       the same, for one call that only reads: tell what it returned
    hostile    as the agent's user: start a daemon, send it arguments that
               the agent never would, tell what was not refused
"""

from __future__ import annotations

import inspect
import json
import random
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

from oslo_config import cfg

from ovn_metadata.privsep import context, settings, vswitch
from ovn_metadata.privsep.errors import (
    FleetError,
    InvalidArgumentError,
    SettingsError,
)
from ovn_metadata.privsep.fleet import calls as fleet
from ovn_metadata.privsep.fleet import shut_down
from ovn_metadata.privsep.namespace import ask, look
from ovn_metadata.privsep.namespace import calls as network

WITH_CAPABILITIES = "kept"
SEED = 20261125

LINK: dict[str, Any] = {
    "mac": "fa:16:3e:00:00:01",
    "mtu": 1442,
    "addresses": ["10.9.0.2/24"],
    "neighbours": [["10.9.0.3", "fa:16:3e:00:00:02"]],
    "hosts": ["10.8.0.3"],
    "userspace_datapath": False,
    "hop_limit": 64,
}
PACKET: dict[str, Any] = {
    "bridge": "br-int",
    "in_port": 1,
    "vlan": 0,
    "to_mac": "fa:16:3e:00:00:02",
    "source": "10.9.0.3",
    "destination": "169.254.169.254",
    "kind": "request",
}


def kept(key: str, config: str) -> dict[str, str]:
    """Provision KEY and take it down; return what became of each call."""
    cfg.CONF(args=["--config-file", config])
    context.default.set_client_mode(False)
    said = {"apply": "done", "make_folders": "done"}
    try:
        network.apply(key, **LINK)
        network.set_addresses(key, addresses=LINK["addresses"])
        network.remove_veth(key)
        network.remove(key)
    except Exception as error:  # noqa: BLE001 told to the test
        said["apply"] = repr(error)
    try:
        own = fleet.read_settings()
        fleet.make_folders(key, users=own.users)
        mode = own.places.work_folder(key).stat().st_mode
        fleet.remove_folders(key)
        if not mode & stat.S_ISGID:
            said["make_folders"] = "without set-group-id"
    except Exception as error:  # noqa: BLE001 told to the test
        said["make_folders"] = repr(error)
    return said


def call(config: str, name: str, arguments: dict[str, Any]) -> Any:
    """Return what the call NAME returns, or its error's class and text."""
    cfg.CONF(args=["--config-file", config])
    context.default.set_client_mode(False)
    try:
        return {
            "ask": ask.ask,
            "look": look.look,
            "daemons": vswitch.daemons,
            "trace": vswitch.trace,
        }[name](**arguments)
    except Exception as error:  # noqa: BLE001 told to the test
        return f"{type(error).__name__}: {error}"


# ----------------------------------------------------------------- hostile

_ANY: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 1.5, float("nan"), b"", b"x"),
    *("", " ", "/", ".", "..", "\n", "\0", "x" * 100_000, "\ud7ff", "%s"),
    *([], [[]], [None], {}, {"a": 1}, [{"network": "x"}], {"": {"": []}}),
    *("$(id)", "`id`", "; id", "\u0661\u0662", "\u2028", "\x1b[2J"),
]
_UUID = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
_NETWORKS: list[Any] = [
    *(_UUID.upper(), f"{_UUID}\n", f" {_UUID}", f"{{{_UUID}}}", _UUID[:-1]),
    *(f"../{_UUID}", f"{_UUID}/..", f"{_UUID}\0", _UUID.replace("-", "")),
    *(_UUID.replace("4", "\u0664"), _UUID.replace("4", "\uff14")),
    *("vm-1", "qrouter-x", "ovnmeta-x", "..", "gateway\n", "GATEWAY"),
    *("supervisord", "gateway.conf", f"haproxy-{_UUID}", [_UUID], [[_UUID]]),
    *(_UUID.encode(), {"network": _UUID}, f"urn:uuid:{_UUID}"),
]
_FOLDERS: list[Any] = [
    *("relative", "./x", "/a/../etc", "/a/./b", "/a//b", "//a", "/a/"),
    *("/a b", "/a\nb", "/a\0b", "/a%(x)s", "/a;b", "/a#b", "/a'b", '/a"b'),
    *("/a\\b", "/\u00e4", "/a\tb", "/" + "a" * 5000, "~", "$HOME", "/a\rb"),
    *(b"/var/lib/neutron", ["/var/lib/neutron"], "/*", "/{a}", "/a\n[x]"),
]
_MACS: list[Any] = [
    *("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"),
    *("FA:16:3E:00:00:01", "fa:16:3e:00:00", "fa-16-3e-00-00-01"),
    *("fa:16:3e:00:00:01\n", "fa:16:3e:00:00:0\u0661", b"\xfa\x16>\0\0\1"),
]
_NUMBERS: list[Any] = [*("1442", b"1", "0x5", -1, 2**32 - 1, 2**63, 67.0)]
_MTUS: list[Any] = [*_NUMBERS, 1, 67, 65536, True, False]
_CIDRS: list[Any] = [
    *("10.0.0.1/33", "10.0.0.1/", "10.0.0.1/24%x", "fe80::1%eth0/64"),
    *("127.0.0.1/8", "224.0.0.1/4", "0.0.0.0/0", "::1/128", "ff02::1/64"),
    *(
        "10.0.0.1/24\n",
        "010.0.0.1/24",
        "10.0.0.\u0661/24",
        10,
        ["10.0.0.1/24"],
    ),
    *(b"10.0.0.1/24", "10.0.0.1/-1", "10.0.0.1/24/24", "255.255.255.255/32"),
]
_LISTS: list[Any] = [
    *("10.0.0.1/24", {"10.0.0.1/24": 1}, 5, None, True, b"x"),
    ["10.9.0.2/24"] * 70_000,
]


def _lists(items: list[Any]) -> list[Any]:
    return [*_LISTS, *([item] for item in items), *([[i]] for i in items)]


# Of an argument's name -> what is never one.
_HOSTILE: dict[str, list[Any]] = {
    "network": [v for v in (*_ANY, *_NETWORKS) if v != _UUID],
    "state_path": [*_ANY, *_FOLDERS],
    "users": [*_ANY, "0-0-0-0", "990-990-0-0", "-"],
    "mode": [*_ANY, *_NUMBERS, "start", "Renew", "renew\n", ["renew"]],
    "start": [v for v in (*_ANY, *_NUMBERS) if not isinstance(v, bool)],
    "gid": [
        *(v for v in _ANY if type(v) is not int or not 0 <= v < 2**32 - 1),
        *(v for v in _NUMBERS if v != "gid"),
    ],
    "mac": [*_ANY, *_MACS],
    "mtu": [
        *(v for v in _ANY if type(v) is not int or v not in (0,)),
        *_MTUS,
    ],
    "addresses": _lists([*_CIDRS, "10.0.0.1"]),
    "neighbours": [
        *_LISTS,
        *([[address, "fa:16:3e:00:00:02"]] for address in _CIDRS),
        *([["10.9.0.3", mac]] for mac in (*_MACS, None, 5, [])),
        *([["10.9.0.3"]], [["10.9.0.3", "fa:16:3e:00:00:02", "x"]]),
    ],
    "hosts": _lists([*_CIDRS, "10.0.0.0/24"]),
    "userspace_datapath": [v for v in _ANY if not isinstance(v, bool)],
    "hop_limit": [*_ANY, *_NUMBERS, 65, 255],
}
_ADDRESSES = [*_ANY, *_CIDRS, "10.0.0.0/24", "fe80::1%lo"]
_HOSTILE |= {
    "source": _ADDRESSES,
    "destination": [*_ADDRESSES, "fe80::1"],
    "path": [
        *(v for v in _ANY if v not in ("/",)),
        *(
            "x",
            "/ HTTP/1.1",
            "/\r\nX-Instance-ID: x",
            "/%0d",
            "/?x",
            "/\u00e4",
        ),
    ],
    "timeout_s": [*_ANY, *_NUMBERS, 13, 3600],
    "bridge": [*_ANY, *_FOLDERS[1:], "-h", "--ct-next", "br int", "b" * 16],
    "device": [*(v for v in _ANY if v != ""), "a b", "..", "x" * 16],
    "in_port": [*_ANY, *_NUMBERS, 0xFF00, "1,actions=drop"],
    "vlan": [*(v for v in _ANY if type(v) is not int or v != 0), 4095],
    "to_mac": _HOSTILE["mac"],
    "kind": [*_ANY, "udp", "dhcp\n", "dhcp,dl_vlan=1"],
}
_HOSTILE["gid"] = [*_HOSTILE["gid"], True, False]
_REFUSALS = (InvalidArgumentError, SettingsError, TypeError)
# What is no entrypoint, though the daemon could import it.
_NOT_EXPORTED = (
    *("os.system", "subprocess.call", "builtins.eval", "shutil.rmtree"),
    "ovn_metadata.privsep.namespace.calls._apply",
    "ovn_metadata.privsep.rootfiles.ensure_shared_folder",
    "ovn_metadata.privsep.rootfiles.write_if_different",
    "ovn_metadata.privsep.fleet.start.ensure_supervisord",
    "ovn_metadata.privsep.namespace.links.remove_namespace",
    "ovn_metadata.privsep.context.default.entrypoint",
    "oslo_privsep.daemon.setuid",
    *("", ".", "os", "..", "\0", "os.system\n", "no.such.module"),
)


def _entrypoints() -> Iterator[Callable[..., Any]]:
    for module in (network, ask, look, vswitch, fleet, shut_down):
        for _, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and (
                context.default.is_entrypoint(function)
            ):
                yield function


def _good(state_path: str) -> dict[str, Any]:
    return {
        **LINK,
        "network": _UUID,
        "state_path": state_path,
        "mode": "ensure",
        "start": False,
        "device": "lo",
        "users": settings.load(settings.DEFAULT_FILE).users,
        "gid": 0,
        **PACKET,
        "path": "/",
        "timeout_s": 1,
    }


def _attempts(
    state_path: str,
) -> Iterator[tuple[Callable[..., Any], list[Any], dict[str, Any]]]:
    """Yield calls of which each has something wrong."""
    values = _good(state_path)
    choose = random.Random(SEED)
    for function in _entrypoints():
        names = list(inspect.signature(function).parameters)
        right = {name: values[name] for name in names}
        for name in names:
            for value in _HOSTILE[name]:
                yield function, [], {**right, name: value}
        for _ in range(40 if names else 0):
            bad = choose.sample(names, choose.randint(1, len(names)))
            junk = {name: choose.choice(_HOSTILE[name]) for name in bad}
            yield function, [], {**right, **junk}
        yield function, [], {**right, "unknown": 1}
        yield function, [*right.values(), 1, 2], {}
        if names:
            yield function, [], {}


def hostile(served: str, state_path: str, helper: str) -> dict[str, Any]:
    """Attack a daemon that HELPER starts; return what went through."""
    cfg.CONF(args=[])
    assert context.default.conf is not None  # registers the options
    cfg.CONF.set_override("helper_command", helper, group="privsep")
    context.ensure_daemon()
    channel = context.default.channel
    wrong: list[str] = []
    calls = 0
    for function, arguments, named in _attempts(state_path):
        calls += 1
        shown = {key: f"{value!r:.60}" for key, value in named.items()}
        what = f"{function.__name__} {arguments!r:.200} {shown}"
        try:
            answer = function(*arguments, **named)
        except _REFUSALS:
            continue
        except (OverflowError, UnicodeEncodeError):
            continue  # msgpack has no such value: it was never sent
        except Exception as error:  # noqa: BLE001 told to the test
            wrong.append(f"{what}: {error!r:.300}")
        else:
            wrong.append(f"{what} was done: {answer!r:.100}")
    for name in _NOT_EXPORTED:
        calls += 1
        try:
            answer = channel.remote_call(name, ("touch /root/x",), {}, 10)
            wrong.append(f"{name!r} was called: {answer!r:.100}")
        except (NameError, ImportError, ValueError, FleetError):
            continue
        except Exception as error:  # noqa: BLE001 told to the test
            wrong.append(f"{name!r}: {error!r:.300}")
    return {
        "calls": calls,
        "wrong": wrong[:20],
        "networks": network.list_networks(),
        "same daemon": channel is context.default.channel,
        "served": served,
    }


if __name__ == "__main__":
    act = {
        WITH_CAPABILITIES: kept,
        "call": call,
        "hostile": hostile,
    }[sys.argv[1]]
    json.dump(act(*json.load(sys.stdin)), sys.stdout)
