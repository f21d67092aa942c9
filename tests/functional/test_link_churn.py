"""Links come and go while the kernel is asked for them: a busy host."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyroute2
import pytest
from pyroute2.netlink import NLM_F_DUMP_INTR

from ovn_metadata.privsep.namespace import links
from sandbox.daemons import run
from sandbox.namespaces import inside

NAMESPACE = "churn"
# So many that a dump takes several messages.
STAY = 60
LEAST_DUMPS = 30  # and more, until one was interrupted
MOST_S = 300.0


@pytest.fixture
def churn(tmp_path: Path) -> Iterator[pyroute2.IPRoute]:
    """Give a socket in a namespace whose links change all the time."""
    run("ip", "netns", "add", NAMESPACE)
    stay = "".join(f"link add stay{n} type bridge\n" for n in range(STAY))
    run("ip", "-n", NAMESPACE, "-batch", "-", stdin=stay)
    batch = tmp_path / "batch"
    change = "link add {0} type bridge\nlink set {0} up\nlink del {0}\n"
    batch.write_text("".join(change.format(f"go{n}") for n in range(2)))
    loop = f"while ip -n {NAMESPACE} -batch {batch}; do sleep 0.01; done"
    changes = subprocess.Popen(["sh", "-c", loop], start_new_session=True)
    try:
        with inside(NAMESPACE):
            socket = pyroute2.IPRoute()
        with socket:
            yield socket
    finally:
        run("ip", "netns", "delete", NAMESPACE)
        changes.wait(60)  # its namespace is gone


def test_an_interrupted_dump_is_made_again(churn):
    """Whether the library raises for one (0.7) or passes it on (0.9)."""
    interrupted = 0

    def read() -> list[Any]:
        nonlocal interrupted
        interrupted += 1
        found = list(churn.get_links())
        if not any(map(is_interrupted, found)):
            interrupted -= 1
        return found

    dumps, ends_at = 0, time.monotonic() + MOST_S
    while dumps < LEAST_DUMPS or not interrupted:
        assert time.monotonic() < ends_at, (dumps, interrupted)
        dumps += 1
        found = links.dump(read)
        assert not any(map(is_interrupted, found))
        names = {link.get_attr("IFLA_IFNAME") for link in found}
        assert {f"stay{n}" for n in range(STAY)} <= names
        assert links.networks_of_veths(churn) == set()
    print(f"{interrupted} dumps were interrupted, {dumps} complete")


def is_interrupted(message: Any) -> bool:
    """Return whether the kernel marked MESSAGE."""
    return bool(message["header"]["flags"] & NLM_F_DUMP_INTR)
