"""What the operator reads of an exception: what happened, what to do."""

from __future__ import annotations

import errno
import re
import subprocess
import xmlrpc.client

import ovsdbapp.exceptions
import psutil
import pytest
from oslo_privsep import comm
from ovsdbapp.backend.ovs_idl import idlutils
from pyroute2.netlink.exceptions import NetlinkError

from ovn_metadata.agent import errors as agents
from ovn_metadata.privsep import errors
from ovn_metadata.privsep.errors import sendable, sentence
from ovn_metadata.privsep.fleet.supervisord import AbsentError

KINDS: list[Exception] = [
    *(OSError(number, "") for number in errno.errorcode),
    *(NetlinkError(number) for number in errno.errorcode),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/run/x"),
    TimeoutError(),
    TimeoutError("timed out"),
    ConnectionResetError(),
    ConnectionError("10.0.0.1: refused"),
    OSError(),
    OSError("no number"),
    comm.PrivsepTimeout(),
    *(
        kind("the text")
        for module in (agents, errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    AbsentError("supervisord does not answer"),
    xmlrpc.client.Fault(10, "BAD_NAME: haproxy-x"),
    xmlrpc.client.ProtocolError("/RPC2", 500, "Internal Server Error", {}),
    ovsdbapp.exceptions.TimeoutException(commands="[]", timeout=10, cause=""),
    ovsdbapp.exceptions.OvsdbAppException(),
    idlutils.RowNotFound(table="Chassis_Private", col="name", match="x"),
    psutil.NoSuchProcess(7),
    psutil.AccessDenied(7),
    subprocess.TimeoutExpired(["haproxy", "-c"], 20),
    KeyError("name"),
    RuntimeError(),
    ValueError(),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ExceptionGroup("several", [OSError(errno.ENOSPC, "")]),
]


@pytest.mark.parametrize("error", KINDS, ids=repr)
@pytest.mark.parametrize("crosses", [False, True], ids=["", "from root"])
def test_every_exception_has_words_and_a_remedy(error, crosses):
    said = sentence(sendable(error) if crosses else error)
    assert "[Errno" not in said
    assert not re.fullmatch(r"\W*\w*(Error|Exception|Timeout)?\W*", said)
    is_ours = type(error).__module__.startswith("ovn_metadata.")
    if not is_ours and type(error) is not ConnectionError:
        what, _, remedy = said.rpartition("; ")
        assert len(remedy.split()) >= 3
        assert what


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            "Resource temporarily unavailable; too many processes, or a full "
            "queue: raise TasksMax",
            id="EAGAIN",
        ),
        pytest.param(
            OSError(errno.ENOBUFS, "No buffer space available"),
            "No buffer space available; free memory, or raise MemoryMax of "
            "its unit",
            id="ENOBUFS",
        ),
        pytest.param(
            OSError(errno.ENOSPC, "No space left on device", "/run/x"),
            "/run/x: No space left on device; free space or inodes there "
            "(df, df -i)",
            id="a file",
        ),
        pytest.param(
            OSError(errno.EISDIR, "Is a directory", "/run/x.map"),
            "/run/x.map: Is a directory; a file belongs there: move the "
            "folder away",
            id="a folder in its place",
        ),
        pytest.param(
            OSError(errno.EROFS, "Read-only file system", b"/run/netns/x"),
            "/run/netns/x: Read-only file system; make it writable",
            id="a file by its bytes",
        ),
        pytest.param(
            NetlinkError(errno.EPERM, "Operation not permitted"),
            "Operation not permitted; allow its user to do that "
            "(docs/how-to/confinement.md)",
            id="netlink",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied; let root in"),
            "Permission denied; let root in",
            id="a remedy of its own",
        ),
        pytest.param(
            TimeoutError("timed out"),
            "timed out; is it stopped or overloaded?",
            id="a time-out",
        ),
        pytest.param(
            KeyError("name"),
            "KeyError: 'name'; if that lasts, see the log, with debug = true",
            id="a bug",
        ),
        pytest.param(
            errors.FleetError("supervisord\nhangs"),
            "supervisord hangs",
            id="ours, on one line",
        ),
    ],
)
def test_sentence(error, said):
    assert sentence(error) == said
    assert sentence(sendable(error)) == said
