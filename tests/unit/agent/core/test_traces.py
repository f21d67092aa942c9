"""What ovs-vswitchd's traces say, in its own words (3.1)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovn_metadata.agent.core import traces

DELIVERED = """\
Flow: tcp,in_port=1,vlan_tci=0x0000

bridge("br-int")
----------------
 0. in_port=1, priority 100, cookie 0xacf5f3dc
    resubmit(,8)
64. priority 0
    resubmit(,65)
65. reg15=0x1,metadata=0x1, priority 100, cookie 0x1f574855
    output:2

Final flow: tcp,in_port=1,tcp_flags=0
Megaflow: recirc_id=0,eth,ip,in_port=1
Datapath actions: 3
"""
DROPPED = """\
bridge("br-int")
----------------
 8. metadata=0x1, priority 50, cookie 0x1627cf12
    resubmit(,73)
    73. reg14=0x2,metadata=0x1, priority 80, cookie 0x7a41a21d
            set_field:0x1000/0x1000->reg10
 9. reg0=0x8000/0x8000,metadata=0x1, priority 50, cookie 0x1964009c
    drop

Final flow: tcp
Datapath actions: drop
"""
OFFER = (
    "controller(userdata=00.00.00.02.00.00.00.00.00.01.de.10.00.00.00.63."
    "0a.0a.00.03.79.0e.20.a9.fe.a9.fe.0a.0a.00.02.00.0a.0a.00.01.06.04.c0."
    "00.02.35.33.04.00.00.a8.c0.1a.02.05.a2.01.04.ff.ff.ff.00.03.04.0a.0a."
    "00.01.36.04.0a.0a.00.01,pause)"
)


def test_packet_is_delivered_to_its_port_only():
    assert traces.delivers(DELIVERED, 2)
    assert not traces.delivers(DELIVERED, 20)
    assert not traces.delivers(DELIVERED, None)
    assert not traces.delivers(DROPPED, 2)


def test_port_that_may_not_forward_delivers_nothing():
    skipped = DELIVERED.replace(
        "output:2\n",
        "output:2\n     >> OFPPC_NO_FWD set, skipping output\n",
    )
    assert not traces.delivers(skipped, 2)


def test_drop_is_where_the_last_flow_matched():
    assert traces.dropped_at(DROPPED).startswith("9. reg0=0x8000/0x8000")
    assert traces.dropped_at("") == ""


def test_offer_has_the_route_and_the_router():
    options = traces.dhcp_options(f"28. udp\n    {OFFER}\n")
    assert traces.metadata_route(options) == "10.10.0.2"
    assert traces.router(options) == "10.10.0.1"


def test_no_offer_has_neither():
    options = traces.dhcp_options(DROPPED)
    assert (traces.metadata_route(options), traces.router(options)) == ("", "")


@pytest.mark.parametrize(
    ("routes", "via"),
    [
        pytest.param("", "", id="no option"),
        pytest.param("000a0a0001", "", id="only a default route"),
        pytest.param("18c0000201020304", "", id="another network"),
        pytest.param("10a9fe0a0a0002", "", id="the whole of 169.254/16"),
        pytest.param("18c000020102030420a9fea9fe0a0a0002", "10.10.0.2"),
        pytest.param("20a9fea9fe0a0a", "", id="cut off"),
    ],
)
def test_route_is_found_among_others(routes: str, via: str):
    assert traces.metadata_route({121: bytes.fromhex(routes)}) == via


@given(st.text(alphabet="0123456789abcdef.", max_size=200))
@example("1")  # a long trace is cut off anywhere
def test_no_text_breaks_the_reading(text: str):
    data = text.replace(".", "")
    shown = ".".join(data[i : i + 2] for i in range(0, len(data), 2))
    options = traces.dhcp_options(f"controller(userdata=00.00.00.02.{shown}")
    traces.metadata_route(options)
    traces.router(options)
