"""What haproxy 2.6 answers about its tables, and what anything else may."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.haproxy import shares
from ovn_metadata.agent.haproxy.ledger import Counted

TABLE = """\
# table: sources, type: string, size:10240, used:2
0x564bed50d7d8: key=de60d107-5179-47fd-94e1-9abbb1cf6ccf use=32 exp=59997 \
gpc0=692151 conn_cur=32 http_req_rate(10000)=1308 gpc0_rate(1000)=3 gpc1=13975
0x564bed5176e8: key=- use=0 exp=59482 gpc0=0 conn_cur=0 \
http_req_rate(10000)=49 gpc0_rate(1000)=0 gpc1=1

# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ
metadata,FRONTEND,,,32,130,4096,479,1,2,0,0,17,,
"""


def test_tables_and_errors_are_read():
    assert shares.parse(TABLE) == Counted(
        17,
        {
            "de60d107-5179-47fd-94e1-9abbb1cf6ccf": (692151, 13975),
            "-": (0, 1),
        },
    )


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No such table\n",
        "metadata,FRONTEND,,\n",
        f"metadata,FRONTEND{',' * 11}{'9' * 5000},\n",
        "metadata,FRONTEND" + ",x" * 20,
        "0x1: key=\x1b[2J use=1 gpc0=1",
        "0x1: key=a",
    ],
)
def test_what_is_not_understood_counts_for_nothing(answer):
    assert shares.parse(answer) == Counted()
