"""What the daemon is sent: refused, or in the one form it works with."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.privsep import validate
from ovn_metadata.privsep.errors import InvalidArgumentError

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
MAC = "fa:16:3e:0e:b3:8c"

CHECKS: dict[Callable[[object], object], list[object]] = {
    validate.network: [NETWORK.upper(), f"{NETWORK}\n", "gateway", "../x"],
    validate.program: ["Gateway", "gateway\n", "supervisord", f" {NETWORK}"],
    validate.mac: [
        MAC.upper(),
        f"{MAC}\n",
        f"{MAC}:00",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
    ],
    validate.mtu: [True, -1, 1, 67, 65536, 1500.0, "1500"],
    validate.seconds: [True, 0, -1, 13, 1.5, "5"],
    validate.openflow_port: [True, 0, -1, 0xFF00, "1", "LOCAL"],
    validate.packet: ["", "DHCP", "arp", "dhcp\n", 1],
    validate.mode: ["", "Renew", "start", "renew\n", True],
    validate.hop_limit: [True, 0, -1, 65, "1"],
    validate.vlan: [True, -1, 4095, "1"],
    validate.url_path: [
        "",
        "x",
        "/ x",
        "/\r\n",
        "/?a",
        "/%00",
        f"/{256 * 'a'}",
    ],
    validate.device: ["", "-h", "br int", "br/int", "br-int\n", "b" * 16],
    validate.address: ["10.0.0.1/24", "127.0.0.1", "fe80::1%lo", "x", 1],
    validate.flag: [0, 1, "true", "False"],
    validate.addresses: [
        "10.0.0.1/24",
        [1],
        [b"10.0.0.1/24"],
        ["10.0.0.1"],
        ["10.0.0.1/33"],
        ["10.0.0.01/24"],
        ["10.0.0.1/24\n"],
        ["0.0.0.0/0"],
        ["127.0.0.1/8"],
        ["224.0.0.1/24"],
        ["255.255.255.255/32"],
        ["::/0"],
        ["fe80::1%eth0/64"],
        ["fe80::1/64", "x/24"],
        ["10.0.0.1/24"] * (validate.MAX_ITEMS + 1),
    ],
    validate.neighbours: [
        {"10.0.0.1": MAC},
        ["10.0.0.1"],
        [("10.0.0.1",)],
        [("10.0.0.1", MAC, MAC)],
        [(1, MAC)],
        [("10.0.0.1/24", MAC)],
        [("ff02::1", MAC)],
        [("fe80::1%eth0", MAC)],
        [("10.0.0.1", "01:00:5e:00:00:01")],
        [("10.0.0.1", None)],
    ],
    validate.hosts: [
        "10.0.0.1",
        [1],
        [b"10.0.0.1"],
        ["10.0.0.1/24"],
        ["10.0.0.01"],
        ["10.0.0.1", "x"],
        ["0.0.0.0"],
        ["127.0.0.1"],
        ["::"],
        ["ff02::1"],
        ["fe80::1%eth0"],
        ["10.0.0.1"] * (validate.MAX_ITEMS + 1),
    ],
    validate.folder: [
        "var/lib",
        "/",
        "//var",
        "/var//lib",
        "/var/",
        "/var/./lib",
        "/var/../etc",
        "/var lib",
        "/var\n",
        "/var;x",
        "/var%(ENV_X)s",
        "/var#",
        '/var"',
        "/var$x",
        "/" + "x" * 4096,
    ],
}
SENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
)


def name_of(check: Callable[[object], object]) -> str:
    return next(name for name, of in vars(validate).items() if of is check)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        pytest.param(check, value, id=f"{name_of(check)}: {value!r:.40}")
        for check, values in CHECKS.items()
        for value in [None, b"x", {}, ["\0"], *values]
    ],
)
def test_refused(check, value):
    with pytest.raises(InvalidArgumentError) as error:
        check(value)
    # What is told crosses to the agent's log: one short line.
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@given(SENT)
@pytest.mark.parametrize("check", CHECKS)
def test_any_value_is_refused_or_comes_back_in_its_own_form(check, value):
    try:
        result = check(value)
    except InvalidArgumentError:
        return
    if isinstance(result, frozenset):
        assert check(sorted(map(str, result))) == result
    elif isinstance(result, dict):
        assert check(list(result.items())) == result
    else:
        assert result == value
        assert type(result) is type(value)


@given(
    st.lists(
        st.tuples(st.ip_addresses(), st.integers(0, 2**48 - 1)), max_size=5
    )
)
def test_usable_neighbours_pass_as_they_are(pairs):
    sent = [
        (str(address), ":".join(f"{b:02x}" for b in mac.to_bytes(6, "big")))
        for address, mac in pairs
    ]
    usable = all(
        validate.is_usable(address)
        and mac
        and not mac.to_bytes(6, "big")[0] & 1
        for address, mac in pairs
    )
    if usable:
        assert validate.neighbours(sent) == dict(sent)
    else:
        with pytest.raises(InvalidArgumentError):
            validate.neighbours(sent)


@given(st.lists(st.sampled_from("abz09_@+.,=:-"), min_size=1).map("".join))
def test_a_folder_that_passes_is_one_word_below_root(name):
    if name in (".", ".."):
        with pytest.raises(InvalidArgumentError):
            validate.folder(f"/var/{name}")
    else:
        assert validate.folder(f"/var/{name}") == f"/var/{name}"


def test_accepted():
    assert validate.network(NETWORK) == NETWORK
    assert validate.program("gateway") == "gateway"
    assert validate.program(NETWORK) == NETWORK
    assert validate.mac(MAC) == MAC
    assert [validate.mtu(n) for n in (0, 68, 65535)] == [0, 68, 65535]
    assert validate.flag(False) is False  # the value itself
    assert validate.addresses(("fe80:0::1/64", "fe80::1/64")) == {
        ipaddress.ip_interface("fe80::1/64")
    }
    assert validate.neighbours(((("FE80::1"), MAC),)) == {"fe80::1": MAC}
