"""Sessions with a Southbound server: the agent's, and some that get all rows.

Each session is a process. The agent's have the agent's own IDL, and write what
they know into memory that they share with the benchmark.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import multiprocessing
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from ovs.poller import Poller

from ovn_metadata.agent.ovsdb import southbound
from sandbox import wait_for
from sandbox.daemons import run

# What the agent's options have by default.
BACKOFF_MS = 8000
PROBE_MS = 8000
PORT_COLUMNS = southbound.SouthboundIdl.columns["Port_Binding"]


class Known(ctypes.Structure):
    """What a session knows."""

    _fields_ = (
        ("rows", ctypes.c_int),  # Port_Bindings
        ("networks", ctypes.c_int),  # whose localport is here
        ("nb_cfg", ctypes.c_int),
        ("current_at", ctypes.c_double),  # when it knew that nb_cfg
    )


class Followers:
    """The agent's session for each of CHASSIS, at any of REMOTES."""

    def __init__(self, remotes: Sequence[str], chassis: Sequence[str]) -> None:
        remote = ",".join(remotes)
        self.known = multiprocessing.RawArray(Known, len(chassis))
        self._pids = [
            _fork(functools.partial(_follow, remote, name, known))
            for name, known in zip(chassis, self.known, strict=True)
        ]

    def wait_networks(self, networks: Sequence[int], timeout_s: float) -> None:
        """Wait until each session has the localports of its NETWORKS."""
        wait_for(
            lambda: [one.networks for one in self.known] == [*networks],
            timeout_s=timeout_s,
            interval_s=0.1,
            what=f"localports of {len(networks)} sessions",
        )

    def wait_current(self, nb_cfg: int, timeout_s: float) -> list[float]:
        """Return when each session has known NB_CFG, once all do."""
        wait_for(
            lambda: all(one.nb_cfg == nb_cfg for one in self.known),
            timeout_s=timeout_s,
            interval_s=0.05,
            what=f"nb_cfg {nb_cfg} in all sessions",
        )
        return [one.current_at for one in self.known]

    def reconnect(self) -> None:
        """Have all lose their server at the same time."""
        for pid in self._pids:
            os.kill(pid, signal.SIGUSR1)

    def close(self) -> None:
        """End all of them."""
        _end(self._pids)


@contextlib.contextmanager
def everything(port: int, count: int) -> Iterator[None]:
    """Have COUNT sessions at PORT that are sent every row of all chassis.

    They only read: this machine's memory would not hold as many clouds.
    """
    pids = [_fork(lambda: _read_all(port)) for _ in range(count)]
    try:
        yield
    finally:
        _end(pids)


def sent_bytes() -> int:
    """Return what all connections of now to Southbound servers were sent."""
    text = run("ss", "-tinH", "sport >= :6642 and sport <= :6644")
    return sum(map(int, re.findall(r"bytes_sent:(\d+)", text)))


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def _follow(remote: str, chassis: str, known: Known) -> None:
    while True:
        try:
            idl = southbound.SouthboundIdl(
                remote,
                chassis_name=chassis,
                on_snapshot=lambda _snapshot: None,
                max_backoff_ms=BACKOFF_MS,
                probe_interval=PROBE_MS,
            )
            break
        except OSError:
            time.sleep(1)
    signal.signal(signal.SIGUSR1, lambda *_: idl.force_reconnect())
    while True:
        idl.run()
        snapshot = idl.snapshot
        if snapshot.synced and snapshot.nb_cfg != known.nb_cfg:
            known.current_at = time.monotonic()
            known.nb_cfg = snapshot.nb_cfg
        known.rows = len(idl.tables["Port_Binding"].rows)
        known.networks = sum(
            network.localport is not None
            for network in snapshot.networks.values()
        )
        poller = Poller()
        idl.wait(poller)
        poller.block()


def _read_all(port: int) -> None:
    tables = {
        table: [{"columns": ["external_ids"]}]
        for table in ("Chassis_Private", "Datapath_Binding")
    }
    tables["Port_Binding"] = [{"columns": list(PORT_COLUMNS)}]
    nothing = str(uuid.UUID(int=0))
    request = {
        "id": 1,
        "method": "monitor_cond_since",
        "params": [southbound.SCHEMA, "all", tables, nothing],
    }
    echo = {"id": "echo", "result": [], "error": None}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(json.dumps(request).encode())
        while data := connection.recv(1 << 20):
            # The server's probe; it is sent when there is nothing else.
            if data.endswith(b"}") and b'"method":"echo"' in data[-200:]:
                connection.sendall(json.dumps(echo).encode())
