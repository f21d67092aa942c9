"""A server that takes connections and says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def silent_server(port: int, taken: list[socket.socket]) -> Iterator[None]:
    """Have a server on PORT that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def take() -> None:
            with contextlib.suppress(OSError):  # when it is shut down
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for link in taken:
                link.close()
