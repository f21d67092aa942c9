"""A TCP relay that delivers everything later, in both directions.

    python -m sandbox.delayed PORT HOST SECONDS CONTROL

It listens on the loopback's PORT for what is on the same port of HOST, and on
the unix socket CONTROL to show that it is up. The kernel may lack netem.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK = 1 << 16


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Write to WRITER what READER brings, DELAY_S later."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    async def read() -> None:
        data = b"-"
        while data:
            data = await reader.read(_CHUNK)
            queue.put_nowait((clock() + delay_s, data))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
    writer.write_eof()


async def main(port: int, there: str, delay_s: float, control: str) -> None:
    """Relay for every client."""

    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ExceptionGroup):
            far_reader, far_writer = await asyncio.open_connection(there, port)
            await asyncio.gather(
                relay(reader, far_writer, delay_s),
                relay(far_reader, writer, delay_s),
            )
            far_writer.close()
        writer.close()

    async def greet(_: object, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await asyncio.start_unix_server(greet, control)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(
        main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])
    )
