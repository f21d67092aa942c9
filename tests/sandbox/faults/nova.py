"""Nova's metadata API, the way there, and the secret."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from ..case import wait_served
from ..daemons import Daemon
from ..tls import Authority, Identity, answering
from .scene import Scene
from .table import fault

_PORT = 8779
_numbers = itertools.count()
_TLS_SIDE = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen nova
    bind 127.0.0.1:{port} ssl crt {both}
    server nova 127.0.0.1:{nova}
"""


@fault("501")
def nova_down(scene: Scene) -> Iterator[None]:
    """Nova's metadata API does not run."""
    scene.box.nova.stop()
    yield
    scene.box.nova.start()


@fault("501", slow=True)
def nova_hangs(scene: Scene) -> Iterator[None]:
    """Nova takes connections and answers nothing."""
    scene.box.nova.freeze()
    yield
    scene.box.nova.thaw()


@fault("505")
def nova_answers_500(scene: Scene) -> Iterator[None]:
    """Nova fails, its database for one."""
    scene.box.nova.set_status(500)
    yield
    scene.box.nova.set_status(0)


@fault("506", host=False)
def nova_does_not_know_the_instance(scene: Scene) -> Iterator[None]:
    """This Nova has another cell's instances."""
    nova, port = scene.box.nova, scene.subject.port
    nova.forget(port.device_id)
    yield
    nova.register(port.device_id, port.project_id, port.name)


@fault("508", cuts=False, slow=True)
def nova_slow(scene: Scene) -> Iterator[None]:
    """Nova has too few workers: an answer takes seconds."""
    scene.box.nova.set_delay(4.0)
    yield
    scene.box.nova.set_delay(0.0)


@fault("502", cuts=False, slow=True)
def nova_has_no_address(scene: Scene) -> Iterator[None]:
    """Nova's name can't be looked up; its last addresses are used."""
    before = scene.box.nova.address
    scene.configure(nova_metadata_host="nova.invalid")
    yield
    scene.configure(nova_metadata_host=before)


@fault("501", "505", slow=True)
def nova_at_another_port(scene: Scene) -> Iterator[None]:
    """nova_metadata_port is the port of something that is no web server."""

    def greet(link: object) -> None:
        link.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")  # type: ignore[attr-defined]

    before = str(scene.box.nova.port)
    with answering(("127.0.0.1", 2022), greet):
        scene.configure(nova_metadata_port="2022")
        scene.wait_cut()
        yield
    scene.configure(nova_metadata_port=before)


@fault("507", cuts=False)
def one_of_two_novas_down(scene: Scene) -> Iterator[None]:
    """The other one serves."""
    before = scene.box.nova.address
    scene.configure(nova_metadata_host=f"{before},127.0.0.9")
    yield
    scene.configure(nova_metadata_host=before)


@fault("504")
def secret_is_another(scene: Scene) -> Iterator[None]:
    """Nova's secret was changed, and the agent's was not."""
    scene.box.nova.accept("a-new-one")
    yield
    scene.configure(metadata_proxy_shared_secret="a-new-one")
    wait_served(scene.subject, timeout_s=120)
    scene.box.nova.accept(scene.box.nova.secret)
    scene.configure(metadata_proxy_shared_secret=scene.box.nova.secret)


@contextlib.contextmanager
def _https(
    scene: Scene, folder: Path, trusted: Path, identity: Identity
) -> Iterator[Daemon]:
    """Have Nova answer by TLS, as IDENTITY; the agent trusts TRUSTED."""
    daemon = _tls_side(scene, folder, identity)
    daemon.start()
    scene.configure(
        nova_metadata_protocol="https",
        nova_metadata_port=str(_PORT),
        auth_ca_cert=str(trusted),
    )
    try:
        yield daemon
    finally:
        daemon.stop()
        scene.configure(
            nova_metadata_protocol="http",
            nova_metadata_port=str(scene.box.nova.port),
            auth_ca_cert="",
        )


def _tls_side(scene: Scene, folder: Path, identity: Identity) -> Daemon:
    both = folder / f"{next(_numbers)}.both"
    both.write_text(
        identity.certificate.read_text() + identity.key.read_text()
    )
    file = folder / "nova.cfg"
    file.write_text(
        _TLS_SIDE.format(port=_PORT, both=both, nova=scene.box.nova.port)
    )
    command = ("/usr/bin/env", "haproxy", "-db", "-f", str(file))
    return Daemon("nova-tls", command, scene.box.folder / "nova-tls.out")


def _badly(scene: Scene, trusted: Path, bad: Identity, good: Identity):
    """Have Nova show BAD; afterwards GOOD, which is served."""
    folder = bad.certificate.parent
    with _https(scene, folder, trusted, bad) as daemon:
        scene.wait_cut()
        yield
        daemon.stop()
        better = _tls_side(scene, folder, good)
        better.start()
        try:
            wait_served(scene.subject)
        finally:
            better.stop()


def _authority(scene: Scene, name: str = "ca") -> Authority:
    return Authority(scene.box.folder / f"tls-{next(_numbers)}", name)


@fault("503")
def nova_certificate_expired(scene: Scene) -> Iterator[None]:
    """Nova's certificate is of the past."""
    ca = _authority(scene)
    bad, good = ca.issue("127.0.0.1", expired=True), ca.issue("good")
    yield from _badly(scene, ca.certificate, bad, good)


@fault("503", slow=True)
def nova_certificate_of_a_stranger(scene: Scene) -> Iterator[None]:
    """The authority that signed Nova's certificate is not auth_ca_cert."""
    ca, other = _authority(scene), _authority(scene, "other")
    bad, good = other.issue("127.0.0.1"), ca.issue("127.0.0.1")
    yield from _badly(scene, ca.certificate, bad, good)


@fault("503", slow=True)
def nova_certificate_of_another_name(scene: Scene) -> Iterator[None]:
    """Nova's certificate is for another name than nova_metadata_host."""
    ca = _authority(scene)
    bad, good = ca.issue("other.example"), ca.issue("localhost")
    before = scene.box.nova.address
    scene.configure(nova_metadata_host="localhost")
    yield from _badly(scene, ca.certificate, bad, good)
    scene.configure(nova_metadata_host=before)


@fault("503")
def nova_speaks_no_tls(scene: Scene) -> Iterator[None]:
    """https is configured, and Nova speaks http."""
    scene.configure(nova_metadata_protocol="https")
    scene.wait_cut()
    yield
    scene.configure(nova_metadata_protocol="http")


@fault("501", "503", "505", slow=True)
def nova_speaks_only_tls(scene: Scene) -> Iterator[None]:
    """http is configured, and Nova speaks https."""
    ca = _authority(scene)
    folder = ca.certificate.parent
    daemon = _tls_side(scene, folder, ca.issue("127.0.0.1"))
    daemon.start()
    scene.configure(nova_metadata_port=str(_PORT))
    scene.wait_cut()
    yield
    scene.configure(nova_metadata_port=str(scene.box.nova.port))
    daemon.stop()


@contextlib.contextmanager
def _at_another(scene: Scene, head: str) -> Iterator[None]:
    """Have Nova's port be that of a server that answers HEAD and a page."""

    def answer(link: object) -> None:
        link.recv(65536)  # type: ignore[attr-defined]
        text = f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n<html>"
        link.sendall(text.encode())  # type: ignore[attr-defined]

    with answering(("127.0.0.1", _PORT), answer):
        scene.configure(nova_metadata_port=str(_PORT))
        scene.wait_cut()
        yield
        scene.configure(nova_metadata_port=str(scene.box.nova.port))
        wait_served(scene.subject)


@fault("505", slow=True)
def nova_is_another_web_server(scene: Scene) -> Iterator[None]:
    """A web server that has a page for everything is at Nova's port."""
    with _at_another(scene, "200 OK\r\nContent-Type: text/html"):
        yield


@fault("505", slow=True)
def nova_redirects(scene: Scene) -> Iterator[None]:
    """What is at Nova's port leads to another place."""
    with _at_another(scene, "302 Found\r\nLocation: https://cloud.example"):
        yield


@fault("505", slow=True)
def nova_wants_a_token(scene: Scene) -> Iterator[None]:
    """What is at Nova's port is an API that wants Keystone's token."""
    with _at_another(scene, "401 Unauthorized"):
        yield


@fault("506", host=False, slow=True)
def nova_looks_for_addresses(scene: Scene) -> Iterator[None]:
    """service_metadata_proxy is off: Nova knows nobody by an id."""
    scene.box.nova.set_status(404)
    yield
    scene.box.nova.set_status(0)


@fault("501", "508", slow=True)
def nova_answers_too_late(scene: Scene) -> Iterator[None]:
    """An answer takes longer than an instance waits."""
    scene.box.nova.set_delay(20.0)
    yield
    scene.box.nova.set_delay(0.0)
