"""The quick form of `make bench`: no ratio leaves its band.

The bands have room for a machine that does other work at the same time. What
is out of its band then is measured again.
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

TRIES = 3
PATHS = (str(REPOSITORY / "tests"), str(REPOSITORY))

pytestmark = pytest.mark.skipif(
    not peer.is_installed(peer.default_prefix()),
    reason=f"no Neutron in {peer.default_prefix()}: make peer",
)


@pytest.mark.parametrize("name", ["throughput", "provisioning", "cloud"])
def test_ratios_are_in_their_bands(host: Host, name: str):
    host.clear()
    missed: set[str] | None = None
    for _ in range(TRIES):
        done = subprocess.run(
            (sys.executable, "-m", f"bench.{name}"),
            env={**os.environ, "QUICK": "1", "PYTHONPATH": ":".join(PATHS)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout)
        bounds = json.loads(done.stdout.splitlines()[-1])["bounds"]
        now = {bound["what"] for bound in bounds if not bound["met"]}
        assert bounds
        assert done.returncode == (1 if now else 0)
        missed = now if missed is None else missed & now
        if not missed:
            break
    assert missed == set()
