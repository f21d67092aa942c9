"""A haproxy that was broken into, and has a file that never answers.

`python -m sandbox.mute_file FOLDER [SOCKET]` serves a file of FUSE, and starts
a process that has it open, and prints that one's pid. The server answers
neither a read of its first page, nor a write, nor a close. With the number of
a SOCKET, the process keeps it locked: setsockopt(2) reads from the file
meanwhile. Without, it keeps its own memory locked, in which the kernel looks
for a command line: mmap(2) waits for a write. A line says when it does.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .daemons import run
from .namespaces import mount

DEVICE = Path("/dev/fuse")
SIZE = 4096
# <linux/fuse.h>
_GETATTR, _OPEN, _READ, _WRITE, _INIT = 3, 14, 15, 16, 26
_DIRECT_IO = 1
_IP_OPTIONS = 4
_ANSWERS = {
    _INIT: struct.pack("=2I56x", 7, 31),
    _READ: bytes(SIZE),
    _GETATTR: struct.pack(
        *("=2Q6Q10I", 3600, 0, 1, 2 * SIZE, 8, 0, 0, 0),
        *(0, 0, 0, 0o100644, 1, 0, 0, 0, SIZE, 0),
    ),
}


@contextlib.contextmanager
def broken_in(folder: Path, *shared: socket.socket) -> Iterator[int]:
    """Give the pid of a process that has such a file, and locks SHARED."""
    numbers = [one.fileno() for one in shared]
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(
        [*command, *map(str, numbers)],
        stdout=subprocess.PIPE,
        pass_fds=numbers,
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        try:
            assert server.stdout.readline()
            yield pid
        finally:
            server.kill()  # who waits for an answer gets an error now
            os.kill(pid, signal.SIGKILL)
            run("umount", "--lazy", str(folder / "file"))


def _hold(file: Path, numbers: list[int]) -> None:
    opened = os.open(file, os.O_RDONLY)
    os.fstat(opened)  # its size, or to read it is an error at once
    print(os.getpid(), flush=True)
    for number in numbers:
        memory = mmap.mmap(opened, SIZE, flags=mmap.MAP_PRIVATE)
        ctypes.CDLL(None).setsockopt(
            number,
            socket.IPPROTO_IP,
            _IP_OPTIONS,
            ctypes.byref(ctypes.c_char.from_buffer(memory)),
            8,
        )
    if not numbers:
        _lock_memory(file)
    signal.pause()


def _lock_memory(file: Path) -> None:
    """Map the FILE again, which has to wait until a page is written."""
    written, direct = os.open(file, os.O_RDWR), os.open(file, os.O_RDONLY)
    page = mmap.mmap(written, SIZE, offset=SIZE)
    page.madvise(mmap.MADV_RANDOM)  # its neighbour is not read
    page[0] = 1
    mmap.mmap(direct, SIZE, flags=mmap.MAP_PRIVATE)


def _serve(device: int) -> None:
    while True:
        request = os.read(device, 1 << 17)
        _, kind, number = struct.unpack_from("=2IQ", request)
        answer = _ANSWERS.get(kind)
        if kind == _OPEN:
            (flags,) = struct.unpack_from("=I", request, 40)
            is_direct = not flags & os.O_RDWR
            answer = struct.pack("=Q2I", 0, is_direct * _DIRECT_IO, 0)
        is_first = request[48:56] == bytes(8)  # its offset
        if kind == _WRITE or (kind == _READ and is_first):
            print("it waits", flush=True)
        elif answer is not None:
            head = struct.pack("=IiQ", 16 + len(answer), 0, number)
            os.write(device, head + answer)


def main(folder: str, *numbers: str) -> None:
    """Mount the file; serve it until this is killed."""
    file = Path(folder, "file")
    file.touch()
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=100644,user_id=0,group_id=0"
    mount("mute", str(file), "fuse", data=options)
    if os.fork() == 0:
        os.close(device)
        _hold(file, [*map(int, numbers)])
    _serve(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
