"""The network's haproxy, its map, and the gateway."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from .. import host, wait_for
from ..daemons import run
from ..hoststate import reload
from ..processes import send_signal
from ..sockets import stats
from .scene import Scene
from .table import fault

_BINARY = "/usr/sbin/haproxy"
_PUBLIC = host.HOME / "metadata_proxy"
_GATEWAY = "gateway"


@fault("309", host=False, heals=True)
def map_emptied(scene: Scene) -> Iterator[None]:
    """Somebody emptied the map of the running haproxy."""
    stats(scene.key, f"clear map {host.map_of(scene.key)}")
    yield
    scene.resync()


@fault("309", host=False, heals=True)
def map_gives_another_identity(scene: Scene) -> Iterator[None]:
    """The running haproxy takes the instance for another."""
    stranger = "00000000-0000-4000-8000-000000000000|p|s"
    file = host.map_of(scene.key)
    stats(scene.key, f"set map {file} {scene.address} {stranger}")
    yield
    scene.resync()


@fault("309", cuts=False, host=False, heals=True)
def map_file_edited(scene: Scene) -> Iterator[None]:
    """The file that the next haproxy reads lacks the instance."""
    file = host.map_of(scene.key)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(
        "".join(line for line in lines if scene.address not in line)
    )
    yield
    scene.resync()


@fault("301", heals=True, slow=True)
def haproxy_hangs(scene: Scene) -> Iterator[None]:
    """The network's haproxy hangs; it is replaced."""
    pids = scene.signal(scene.key, signal.SIGSTOP)
    yield
    for pid in pids:
        send_signal(pid, signal.SIGCONT)


@contextlib.contextmanager
def killing(scene: Scene, key: str) -> Iterator[None]:
    """Kill KEY's haproxies as fast as they come."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            scene.signal(key, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@fault("301")
def haproxy_killed_again_and_again(scene: Scene) -> Iterator[None]:
    """The network's haproxy never lives for long."""
    with killing(scene, scene.key):
        yield


@fault("301", "304", slow=True)
def binary_missing(scene: Scene) -> Iterator[None]:
    """haproxy's binary is gone, and the network's haproxy has died."""
    run("mount", "--bind", "/dev/null", _BINARY)
    scene.signal(scene.key, signal.SIGKILL)
    yield
    run("umount", _BINARY)


@fault("301", "304", heals=True)
def configuration_edited(scene: Scene) -> Iterator[None]:
    """Somebody changed the configuration and reloaded haproxy."""
    file = host.config_of(scene.key)
    text = file.read_text()
    file.write_text(
        text.replace(
            "frontend metadata\n",
            "frontend metadata\n    http-request deny\n",
        )
    )
    reload(scene.key)
    yield
    scene.resync()


@fault("301", "304", cuts=False, heals=True, slow=True)
def configuration_is_nonsense(scene: Scene) -> Iterator[None]:
    """Somebody wrote nonsense into the configuration."""
    host.config_of(scene.key).write_text("nonsense\n")
    reload(scene.key)
    yield
    scene.resync()


@fault("301", heals=True, slow=True)
def program_stopped(scene: Scene) -> Iterator[None]:
    """Somebody stopped the network's program in supervisord."""
    where = f"unix://{host.FLEET / 'supervisord.sock'}"
    name = f"haproxy-{scene.key}:*"
    run("supervisorctl", "-s", where, "stop", name)
    yield
    scene.resync()


@fault("307", heals=True, slow=True)
def gateway_hangs(scene: Scene) -> Iterator[None]:
    """The gateway hangs; it is replaced."""
    pids = scene.signal(_GATEWAY, signal.SIGSTOP)
    yield
    for pid in pids:
        send_signal(pid, signal.SIGCONT)


@fault("307")
def gateway_killed_again_and_again(scene: Scene) -> Iterator[None]:
    """The gateway never lives for long."""
    with killing(scene, _GATEWAY):
        yield


def gateway_socket() -> Path:
    """Return the socket that the networks' haproxies connect to."""
    text = next(host.CONFIGS.glob("*-*-*.conf")).read_text()
    line = next(
        line for line in text.splitlines() if "server kept unix@" in line
    )
    return Path(line.split("unix@")[1].split()[0])


@fault("307", cuts=False, heals=True, slow=True)
def gateway_socket_removed(scene: Scene) -> Iterator[None]:
    """The socket that leads from the networks to the gateway is gone."""
    gateway_socket().unlink()
    yield
    scene.resync()


@fault("308", cuts=False)
def public_socket_taken(scene: Scene) -> Iterator[None]:
    """Another agent listens at metadata_proxy_socket."""
    with socket.socket(socket.AF_UNIX) as other:

        def is_taken() -> bool:
            _PUBLIC.unlink(missing_ok=True)
            other.bind(str(_PUBLIC))
            return True

        # The agent may have made its own again in between.
        wait_for(is_taken, timeout_s=60, what="a free name")
        other.listen()
        yield
    _PUBLIC.unlink(missing_ok=True)
    scene.resync()
