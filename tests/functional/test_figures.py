"""The quick form of `make bench`: no ratio leaves its band.

The bands have room for a machine that does other work at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sandbox import peer
from sandbox.case import Host
from sandbox.host import REPOSITORY

PATHS = (str(REPOSITORY / "tests"), str(REPOSITORY))

pytestmark = pytest.mark.skipif(
    not peer.is_installed(peer.default_prefix()),
    reason=f"no Neutron in {peer.default_prefix()}: make peer",
)


@pytest.mark.parametrize("name", ["throughput", "provisioning", "cloud"])
def test_ratios_are_in_their_bands(host: Host, name: str):
    host.clear()
    done = subprocess.run(
        (sys.executable, "-m", f"bench.{name}"),
        env={**os.environ, "QUICK": "1", "PYTHONPATH": ":".join(PATHS)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout)
    result = json.loads(done.stdout.splitlines()[-1])
    missed = [bound for bound in result["bounds"] if not bound["met"]]
    assert result["bounds"]
    assert missed == []
    assert done.returncode == 0
