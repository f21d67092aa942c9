"""Whose address it is: link-local forms, conflicts, subports, signature."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent import identity
from ovn_metadata.agent.model import Instance, VifPort

MACS = [f"fa:16:3e:00:00:{number:02x}" for number in range(4)]
ADDRESSES = [ipaddress.ip_address(f"10.0.0.{number}") for number in range(4)]


def vif(
    name: str, *addresses: str, macs: tuple[str, ...] = (), instance: str = "i"
) -> VifPort:
    macs = macs or (f"fa:16:3e:00:01:{ord(name[-1]):02x}",)
    return VifPort(
        logical_port=name,
        mac=macs[0],
        macs=frozenset(macs),
        addresses=tuple(
            (ipaddress.ip_address(each), macs[0]) for each in addresses
        ),
        instance=instance and f"{instance}-{name}",
        project=f"project-{name}",
    )


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("fa:16:3e:af:19:7c", "fe80::f816:3eff:feaf:197c"),
        ("02:00:00:00:00:01", "fe80::ff:fe00:1"),
        ("00:11:22:33:44:55", "fe80::211:22ff:fe33:4455"),
    ],
)
def test_link_local_address(mac, address):
    assert str(identity.link_local_address(mac)) == address


def test_an_address_of_two_ports_is_in_neither_result():
    instances, macs, conflicts = identity.assign(
        [vif("b", "10.0.0.1", "10.0.0.2"), vif("a", "10.0.0.1")]
    )
    assert ADDRESSES[1] not in instances
    assert ADDRESSES[1] not in macs
    assert instances[ADDRESSES[2]] == Instance("i-b", "project-b")
    assert conflicts == ("10.0.0.1 claimed by ports a, b",)


def test_ports_with_one_mac_conflict_in_the_link_local_address_alone():
    instances, _, conflicts = identity.assign(
        vif(name, f"10.0.0.{number}", macs=(MACS[0],))
        for number, name in enumerate(("a", "b"))
    )
    assert list(instances) == ADDRESSES[:2]
    assert conflicts == ("fe80::f816:3eff:fe00:0 claimed by ports a, b",)


def test_a_port_of_no_instance_is_a_neighbour_without_metadata():
    instances, macs, conflicts = identity.assign(
        [vif("a", "10.0.0.1", instance="")]
    )
    assert not instances
    assert ADDRESSES[1] in macs
    assert not conflicts


def test_a_port_has_a_link_local_address_for_each_mac():
    port = vif("a", "10.0.0.1", macs=(MACS[1], MACS[2]))
    assert identity.claimed_addresses(port) == {
        ADDRESSES[1]: MACS[1],
        identity.link_local_address(MACS[1]): MACS[1],
        identity.link_local_address(MACS[2]): MACS[2],
    }


@pytest.mark.parametrize(
    ("instance", "parent", "expected"),
    [
        pytest.param("", "gone", "", id="the parent is not here"),
        pytest.param("own", "parent", "own-sub", id="it has its own"),
        pytest.param("", "parent", "i-parent", id="it gets the parent's"),
    ],
)
def test_subport(instance, parent, expected):
    port = vif("sub", "10.0.0.1", instance=instance)
    port = VifPort(
        port.logical_port,
        port.mac,
        port.macs,
        port.addresses,
        port.instance,
        port.project,
        parent,
    )
    (found,) = identity.with_parents([port], {"parent": vif("parent")})
    assert found.instance == expected
    assert (found.addresses, found.macs) == (port.addresses, port.macs)


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from(ADDRESSES)),
            st.sets(st.sampled_from(MACS), min_size=1),
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_ports_does_not_matter(claims, random):
    ports = [
        vif(f"p{number}", *map(str, addresses), macs=tuple(sorted(macs)))
        for number, (addresses, macs) in enumerate(claims)
    ]
    expected = identity.assign(ports)
    random.shuffle(ports)
    assert identity.assign(ports) == expected
    # Every address has one owner or is reported.
    claimed = [a for port in ports for a in identity.claimed_addresses(port)]
    assert expected[0].keys() == {a for a in claimed if claimed.count(a) == 1}
    assert len(expected[2]) == len(set(claimed)) - len(expected[0])


@given(st.text(), st.text())
def test_the_signature_is_what_nova_computes(secret, instance):
    # nova/api/metadata/handler.py, _validate_shared_secret
    expected = hmac.new(
        secret.encode("utf-8"), instance.encode("utf-8"), hashlib.sha256
    ).hexdigest()
    assert identity.signature(secret, instance) == expected
