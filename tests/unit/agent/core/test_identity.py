"""Whose address it is: link-local forms, conflicts, subports, signature."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.core import identity
from ovn_metadata.agent.model import Instance, IPAddress, VifPort

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


def test_an_address_whose_mac_another_port_may_use_is_nobodys():
    """OVN might give the answers to that one."""
    instances, macs, conflicts = identity.assign(
        [
            vif("a", "10.0.0.0", macs=(MACS[0],)),
            vif("b", "10.0.0.1", macs=(MACS[1], MACS[0])),
        ]
    )
    assert set(instances) == set(macs)
    assert set(instances) == {
        ADDRESSES[1],
        identity.link_local_address(MACS[1]),
    }
    assert conflicts == (
        f"10.0.0.0 has the MAC {MACS[0]} of ports a, b",
        f"fe80::f816:3eff:fe00:0 has the MAC {MACS[0]} of ports a, b",
    )


def test_the_best_claim_on_an_address_wins():
    """Given, then taken, then allowed; a shared one is served to no one."""
    given, taken, alone, shared = ADDRESSES
    mac = vif("a").mac
    first = dataclasses.replace(
        vif("a", str(given)),
        virtual=(taken,),
        allowed=((alone, mac), (shared, mac)),
    )
    second = dataclasses.replace(
        vif("b"),
        virtual=(given,),
        allowed=tuple((a, vif("b").mac) for a in (given, taken, shared)),
    )
    instances, macs, conflicts = identity.assign([first, second])
    for address in (given, taken, alone):
        assert instances[address].instance == "i-a"
        assert macs[address] == mac
    assert shared not in instances
    assert shared not in macs
    assert not conflicts  # an address of a pair is there to be shared


def test_a_virtual_address_taken_twice_is_a_conflict():
    ports = [
        dataclasses.replace(vif(name), virtual=(ADDRESSES[0],))
        for name in ("a", "b")
    ]
    instances, _, conflicts = identity.assign(ports)
    assert ADDRESSES[0] not in instances
    assert conflicts == ("10.0.0.0 claimed by ports a, b",)


def test_a_port_of_no_instance_is_a_neighbour_without_metadata():
    instances, macs, conflicts = identity.assign(
        [vif("a", "10.0.0.1", instance="")]
    )
    assert not instances
    assert ADDRESSES[1] in macs
    assert not conflicts


def test_a_port_has_a_link_local_address_for_each_mac():
    """The MAC of an allowed address pair is not its own alone."""
    port = vif("a", "10.0.0.1", macs=(MACS[1], MACS[2]))
    assert identity.claimed_addresses(port) == (
        {
            ADDRESSES[1]: MACS[1],
            identity.link_local_address(MACS[1]): MACS[1],
        },
        {},
        {identity.link_local_address(MACS[2]): MACS[2]},
    )


REQUESTED = {"bound": False}


@pytest.mark.parametrize(
    ("bound", "requested", "owner"),
    [
        pytest.param({}, {}, "a", id="both are given it"),
        pytest.param(
            {"addresses": (), "allowed": ((ADDRESSES[0], MACS[0]),)},
            {},
            "a",
            id="the bound one is allowed to use it",
        ),
        pytest.param(
            {"addresses": ()}, {}, "b", id="the bound one does not claim it"
        ),
        pytest.param(
            {"addresses": (), "macs": frozenset(MACS[:2])},
            {},
            "",
            id="the bound one may use the MAC of the other",
        ),
        pytest.param(
            {},
            {"macs": frozenset(MACS[:2])},
            "a",
            id="the other may use the MAC of the bound one",
        ),
        pytest.param(REQUESTED, {}, "", id="neither is bound"),
    ],
)
def test_a_bound_port_takes_precedence_over_one_that_is_not(
    bound, requested, owner
):
    """OVN delivers nothing from or to a port that is not bound."""
    first = vif("a", "10.0.0.0", macs=(MACS[0],))
    second = vif("b", "10.0.0.0", macs=(MACS[1],))
    ports = [
        dataclasses.replace(first, **bound),
        dataclasses.replace(second, **(REQUESTED | requested)),
    ]
    for order in (ports, ports[::-1]):
        instances, macs, conflicts = identity.assign(order)
        named = any(text.startswith("10.0.0.0 ") for text in conflicts)
        assert named is not bool(owner)
        if owner:
            assert instances[ADDRESSES[0]].instance == f"i-{owner}"
            assert macs[ADDRESSES[0]] == {"a": MACS[0], "b": MACS[1]}[owner]
        else:
            assert ADDRESSES[0] not in instances


def test_a_mac_that_only_another_port_has_is_of_both():
    """An address pair's MAC that is missing from the port's own MACs."""
    port = dataclasses.replace(
        vif("a", macs=(MACS[0],)), allowed=((ADDRESSES[0], MACS[1]),)
    )
    instances, _, _ = identity.assign([port, vif("b", macs=(MACS[1],))])
    assert ADDRESSES[0] not in instances


claims = st.sets(st.sampled_from(ADDRESSES))


@given(
    st.lists(
        st.tuples(
            *(claims, claims, claims),
            st.sets(st.sampled_from(MACS), min_size=1),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_ports_does_not_matter(found, random):
    ports = [
        dataclasses.replace(
            vif(f"p{number}", *map(str, given_), macs=tuple(sorted(macs))),
            virtual=tuple(sorted(virtual)),
            allowed=tuple((a, min(macs)) for a in sorted(allowed)),
            bound=bound,
        )
        for number, (given_, virtual, allowed, macs, bound) in enumerate(found)
    ]
    expected = identity.assign(ports)
    random.shuffle(ports)
    assert identity.assign(ports) == expected
    instances, neighbours, conflicts = expected
    assert instances.keys() == neighbours.keys()
    named = {ipaddress.ip_address(text.split()[0]) for text in conflicts}
    assert not named & instances.keys()
    for address, who in instances.items():
        (owner,) = (p for p in ports if p.instance == who.instance)
        # Answers reach the owner and no other, as far as one can be reached.
        others = [p for p in ports if p is not owner]
        rivals = [p for p in others if p.bound or not owner.bound]
        assert neighbours[address] in owner.macs
        assert not any(neighbours[address] in p.macs for p in rivals)
        # No other port was given it, and no bound one may use it if this one
        # is not bound.
        assert not any(address in dict(p.addresses) for p in rivals)
        if not owner.bound:
            assert not any(may_use(p, address) for p in others if p.bound)
    for port in ports:
        for address in dict(port.addresses):
            if port.bound or not any(may_use(p, address) for p in ports):
                assert (address in instances) is (address not in named)
    # Ports that are not bound change nothing for those that are.
    bound_ones = {p.instance for p in ports if p.bound}
    alone, _, _ = identity.assign([p for p in ports if p.bound])
    assert alone == {
        address: who
        for address, who in instances.items()
        if who.instance in bound_ones
    }


def may_use(port: VifPort, address: IPAddress) -> bool:
    """Return whether PORT is bound and has any claim on ADDRESS."""
    return port.bound and any(
        address in each for each in identity.claimed_addresses(port)
    )


@given(st.text(), st.text())
def test_the_signature_is_what_nova_computes(secret, instance):
    # nova/api/metadata/handler.py, _validate_shared_secret
    expected = hmac.new(
        secret.encode("utf-8"), instance.encode("utf-8"), hashlib.sha256
    ).hexdigest()
    assert identity.signature(secret, instance) == expected
