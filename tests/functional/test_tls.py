"""TLS both ways: to Nova with a client certificate, to OVN by a relay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox, host, wait_for
from sandbox.daemons import Daemon, run
from sandbox.ovn import SB_REMOTE

NOVA_TLS_PORT = 8776
RELAY = "ssl:127.0.0.1:6643"


@pytest.fixture
def certificates(own_box) -> Path:
    """Make a CA, a server's and a client's certificate; return where."""
    folder = own_box.folder / "tls"
    folder.mkdir(mode=0o755)
    extension = folder / "san"
    extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    authority = ("-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key")
    new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-batch")
    for name in ("ca", "other"):
        run(
            *(*new, "-x509", "-days", "2", "-subj", f"/CN=sandbox-{name}"),
            *("-keyout", f"{folder}/{name}.key"),
            *("-out", f"{folder}/{name}.pem"),
        )
    for name in ("server", "client"):
        run(
            *(*new, "-subj", f"/CN={name}"),
            *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.r"),
        )
        run(
            *("openssl", "x509", "-req", "-days", "2", *authority),
            *("-CAcreateserial", "-extfile", str(extension)),
            *("-in", f"{folder}/{name}.r", "-out", f"{folder}/{name}.pem"),
        )
    group = host.ids(host.SERVICE_USER)[1]
    for path in folder.iterdir():
        os.chown(path, 0, group)
        path.chmod(0o640 if path.name == "client.key" else 0o644)
    return folder


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[None]:
    daemon.start()
    try:
        yield
    finally:
        daemon.stop()


def nova_by_tls(box: Sandbox, folder: Path) -> Daemon:
    """Return Nova's TLS side, which wants a certificate of the client."""
    both = folder / "server-both.pem"
    both.write_text(
        (folder / "server.pem").read_text()
        + (folder / "server.key").read_text()
    )
    config = folder / "nova.cfg"
    config.write_text(
        f"""
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen nova
    bind 127.0.0.1:{NOVA_TLS_PORT} ssl crt {both} \
ca-file {folder}/ca.pem verify required
    server nova 127.0.0.1:{box.nova.port}
"""
    )
    command = ("/usr/sbin/haproxy", "-db", "-f", str(config))
    return Daemon("nova-tls", command, box.folder / "nova-tls.out")


def relay_by_tls(box: Sandbox, folder: Path) -> Daemon:
    """Return an OVSDB relay of the Southbound database, by TLS alone."""
    command = (
        "ovsdb-server",
        *("-vconsole:off", f"--unixctl={box.folder}/relay.ctl"),
        "--remote=pssl:6643:127.0.0.1",
        f"--private-key={folder}/server.key",
        f"--certificate={folder}/server.pem",
        f"--ca-cert={folder}/ca.pem",
        f"relay:OVN_Southbound:{SB_REMOTE}",
    )
    return Daemon("relay", command, box.folder / "relay.out")


def test_nova_by_https_and_southbound_by_ssl(own_box, certificates):
    """A client certificate with its key apart, as Neutron has them.

    Certificates that are others by now take effect at a reload.
    """
    folder = certificates
    own_box.agent.configure(
        {
            ("DEFAULT", "nova_metadata_host"): "localhost",
            ("DEFAULT", "nova_metadata_port"): str(NOVA_TLS_PORT),
            ("DEFAULT", "nova_metadata_protocol"): "https",
            ("DEFAULT", "auth_ca_cert"): f"{folder}/ca.pem",
            ("DEFAULT", "nova_client_cert"): f"{folder}/client.pem",
            ("DEFAULT", "nova_client_priv_key"): f"{folder}/client.key",
            ("ovn", "ovn_sb_connection"): RELAY,
            ("ovn", "ovn_sb_private_key"): f"{folder}/client.key",
            ("ovn", "ovn_sb_certificate"): f"{folder}/client.pem",
            ("ovn", "ovn_sb_ca_cert"): f"{folder}/ca.pem",
        }
    )
    with (
        running(nova_by_tls(own_box, folder)),
        running(relay_by_tls(own_box, folder)),
    ):
        own_box.agent.start()
        own_box.agent.wait_ready()
        network = own_box.neutron.create_network("n")
        instance = own_box.instance(own_box.neutron.create_port(network))
        answer = wait_for(
            lambda: (a := instance.fetch(timeout=2)).status == 200 and a,
            timeout_s=20,
            what="metadata",
        )
        assert answer.text == instance.instance_id
        authority = folder / "ca.pem"
        good = authority.read_text()
        # The certificate of another authority, under the same name.
        authority.write_text((folder / "other.pem").read_text())
        insecure = ("DEFAULT", "nova_metadata_insecure")
        for value, status in (("false", 503), ("true", 200)):
            own_box.agent.configure({insecure: value})
            own_box.agent.reload()
            wait_for(
                lambda wanted=status: instance.fetch().status == wanted,
                timeout_s=20,
                what=f"{status} with insecure {value}",
            )
        authority.write_text(good)
        own_box.agent.configure({insecure: "false"})
        own_box.agent.reload()
        config = host.HOME / "ovn-metadata-proxy/gateway.conf"
        wait_for(
            lambda: (
                "verify required" in config.read_text()
                and instance.fetch().status == 200
            ),
            timeout_s=20,
            what="trust again",
        )
        ids = own_box.ovn.sbctl("get", "Chassis_Private", ".", "external_ids")
        assert "neutron:ovn-metadata-id" in ids
