"""TLS both ways: to Nova with a client certificate, to OVN by a relay.

And to OVN with its role-based access control, which goes by the name in the
certificate: the chassis'.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Sandbox, host, wait_for
from sandbox.case import Host, wait_served
from sandbox.controller import registration
from sandbox.daemons import CommandError, Daemon, run
from sandbox.ovn import SB_REMOTE
from sandbox.sockets import status

NOVA_TLS_PORT = 8776
RELAY = "ssl:127.0.0.1:6643"
WITH_ROLE = "ssl:127.0.0.1:6644"
OWN_INTERVAL = ("ovn_metadata_agent", "resync_interval")


def make_certificates(box: Sandbox) -> Path:
    """Make a CA, a server's and the chassis' certificate; return where."""
    folder = box.folder / "tls"
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
    for name, subject in (("server", "server"), ("client", box.ovn.system_id)):
        run(
            *(*new, "-subj", f"/CN={subject}"),
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


@dataclasses.dataclass
class Tls:
    """A chassis whose Nova, at least, is reached by TLS alone."""

    box: Sandbox
    folder: Path  # of the certificates
    relay: Daemon

    def serve(self, southbound: str) -> Instance:
        """Start the agent on SOUTHBOUND; return an instance it serves."""
        self.box.agent.stop()
        self.box.agent.configure({("ovn", "ovn_sb_connection"): southbound})
        self.box.agent.start()
        self.box.agent.wait_ready()
        return self.instance()

    def instance(self) -> Instance:
        """Return a new instance on a network of its own, once served."""
        network = self.box.neutron.create_network("n")
        instance = self.box.instance(self.box.neutron.create_port(network))
        wait_served(instance)
        return instance

    def sbctl(self, *args: str) -> str:
        """Run ovn-sbctl by the connection that the agent has."""
        return run(
            *("ovn-sbctl", f"--db={WITH_ROLE}", "--timeout=60"),
            f"--private-key={self.folder}/client.key",
            f"--certificate={self.folder}/client.pem",
            f"--ca-cert={self.folder}/ca.pem",
            *args,
        )


@pytest.fixture(scope="module")
def tls(host: Host) -> Iterator[Tls]:
    """Provide Nova and an OVSDB relay, both by TLS; no agent runs yet."""
    box = host.sandbox()
    folder = make_certificates(box)
    box.agent.configure(
        {
            ("DEFAULT", "agent_down_time"): "9",  # for heartbeats within 3 s
            ("DEFAULT", "nova_metadata_host"): "localhost",
            ("DEFAULT", "nova_metadata_port"): str(NOVA_TLS_PORT),
            ("DEFAULT", "nova_metadata_protocol"): "https",
            ("DEFAULT", "auth_ca_cert"): f"{folder}/ca.pem",
            ("DEFAULT", "nova_client_cert"): f"{folder}/client.pem",
            ("DEFAULT", "nova_client_priv_key"): f"{folder}/client.key",
            ("ovn", "ovsdb_retry_max_interval"): "1",
            ("ovn", "ovn_sb_private_key"): f"{folder}/client.key",
            ("ovn", "ovn_sb_certificate"): f"{folder}/client.pem",
            ("ovn", "ovn_sb_ca_cert"): f"{folder}/ca.pem",
        }
    )
    relay = relay_by_tls(box, folder)
    with running(nova_by_tls(box, folder)), running(relay):
        yield Tls(box, folder, relay)


def test_nova_by_https_and_southbound_by_ssl(tls):
    """A client certificate with its key apart, as Neutron has them."""
    tls.serve(RELAY)
    # The heartbeat has a thread of its own.
    wait_for(
        lambda: "neutron:ovn-metadata-id" in registration(tls.box),
        timeout_s=60,
        what="registration",
    )


def test_client_certificate_that_nova_misses_is_named(tls):
    """By TLS 1.3 Nova refuses it when the handshake is over."""
    instance = tls.serve(RELAY)
    options = ("nova_client_cert", "nova_client_priv_key")
    files = (tls.folder / "client.pem", tls.folder / "client.key")

    def reload(*values: object) -> None:
        for option, value in zip(options, values, strict=True):
            tls.box.agent.configure({("DEFAULT", option): str(value)})
        tls.box.agent.reload()

    reload("", "")
    try:
        wait_for(
            lambda: (
                "OVNMD-503" in tls.box.agent.status().stdout
                and "CERTIFICATE_REQUIRED" in tls.box.agent.status().stdout
            ),
            timeout_s=90,
            what="OVNMD-503",
        )
        assert instance.fetch().status in (502, 503)
    finally:
        reload(*files)
    wait_served(instance)


def test_nova_at_an_address(tls):
    """No name is looked for in its certificate, by any haproxy."""
    instance = tls.serve(RELAY)
    option = ("DEFAULT", "nova_metadata_host")
    config = host.config_of("gateway")

    def reload(value: str, word: str) -> None:
        tls.box.agent.configure({option: value})
        tls.box.agent.reload()
        wait_for(
            lambda: word in config.read_text(), timeout_s=60, what=f"{value}"
        )
        wait_served(instance)

    try:
        reload("127.0.0.1", "sni var(txn.none)")
    finally:
        reload("localhost", "sni str(localhost)")


def test_certificate_of_another_authority_takes_effect_at_a_reload(tls):
    """And is left again; the name of the file stays."""
    instance = tls.serve(RELAY)
    authority = tls.folder / "ca.pem"
    good = authority.read_text()
    insecure = ("DEFAULT", "nova_metadata_insecure")

    def reload(value: str, status: int) -> None:
        tls.box.agent.configure({insecure: value})
        tls.box.agent.reload()
        wait_for(
            lambda: instance.fetch().status == status,
            timeout_s=60,
            what=f"{status} with insecure {value}",
        )

    authority.write_text((tls.folder / "other.pem").read_text())
    try:
        reload("false", 503)
        reload("true", 200)
    finally:
        authority.write_text(good)
    reload("false", 200)
    config = host.config_of("gateway")
    wait_for(
        lambda: (
            "verify required" in config.read_text()
            and instance.fetch().status == 200
        ),
        timeout_s=60,
        what="trust again",
    )


def test_authorities_in_a_folder(tls):
    """Named by their hash, as OpenSSL and `requests` look for them."""
    option = ("DEFAULT", "auth_ca_cert")
    folder = tls.folder / "authorities"
    folder.mkdir()
    before = tls.box.agent.options[option]
    instance = tls.serve(RELAY)
    tls.box.agent.configure({option: str(folder)})
    try:
        for file, status in (("other.pem", 503), ("ca.pem", 200)):
            certificate = tls.folder / file
            name = run(
                "openssl", "x509", "-hash", "-noout", "-in", str(certificate)
            )
            text = certificate.read_text()
            (folder / f"{name.strip()}.0").write_text(text)
            tls.box.agent.reload()
            wait_for(
                lambda s=status: instance.fetch().status == s,
                timeout_s=60,
                what=f"{status} with {file}",
            )
    finally:
        tls.box.agent.configure({option: before})
        tls.box.agent.reload()
    wait_served(instance)


def test_systems_authorities_are_read_again(tls):
    """After update-ca-certificates, without a reload of the agent."""
    options = ("DEFAULT", "auth_ca_cert"), OWN_INTERVAL
    before = {each: tls.box.agent.options.get(each, "60") for each in options}
    instance = tls.serve(RELAY)
    folder = tls.folder / "system"
    folder.mkdir()

    def trust(file: str, status: int) -> None:
        # haproxy reads those whose name ends so.
        shutil.copy(tls.folder / file, folder)
        wait_for(
            lambda: instance.fetch().status == status,
            timeout_s=60,
            what=f"{status} with {file}",
        )

    place = str(ssl.get_default_verify_paths().capath)
    run("mount", "--bind", str(folder), place)
    try:
        tls.box.agent.configure(dict(zip(options, ("", "5"), strict=True)))
        tls.box.agent.reload()
        trust("other.pem", 503)
        trust("ca.pem", 200)
    finally:
        run("umount", place)
        tls.box.agent.configure(before)
        tls.box.agent.reload()
    wait_served(instance)


def test_relay_killed_and_back(tls):
    """What is served is served on, untouched, and then it follows again."""
    instance = tls.serve(RELAY)
    # The agent notes it when the haproxy serves already.
    word = f"provisioned network={instance.port.network.id} "
    wait_for(
        lambda: (
            word in tls.box.agent.log() and status()["pace"] == "caught up"
        ),
        timeout_s=60,
        what="the end of all work",
    )
    before = [p.pid for p in tls.box.agent.processes("haproxy")]
    logged = tls.box.agent.mark()
    with Loader([instance]) as load:
        tls.relay.kill()
        asked = load.requests
        wait_for(
            lambda: load.requests > asked + 20,
            timeout_s=60,
            what="requests without a relay",
        )
        tls.relay.start()
        tls.instance()
    assert load.failures == []
    assert {*before} <= {p.pid for p in tls.box.agent.processes("haproxy")}
    assert instance.port.network.id not in tls.box.agent.log(logged)


def refused(tls: Tls, *args: str) -> bool:
    """Tell whether OVN refuses ARGS because of the role."""
    try:
        tls.sbctl(*args)
    except CommandError as error:
        return "RBAC rules" in str(error)
    return False


def with_role(tls: Tls) -> None:
    """Have OVN listen with its role-based access control."""
    folder = tls.folder
    tls.box.ovn.sbctl(
        *("set-ssl", f"{folder}/server.key", f"{folder}/server.pem"),
        f"{folder}/ca.pem",
        *("--", "--id=@c", "create", "Connection", "role=ovn-controller"),
        *('target="pssl:6644:127.0.0.1"', "--", "set", "SB_Global", "."),
        "connections=@c",
    )


def test_heartbeat_that_ovn_refuses_is_told_once(tls):
    """The certificate is another chassis': all is served, and no log fills."""
    with_role(tls)
    folder = tls.folder
    names = {
        ("ovn", "ovn_sb_private_key"): f"{folder}/server.key",
        ("ovn", "ovn_sb_certificate"): f"{folder}/server.pem",
    }
    before = {name: tls.box.agent.options[name] for name in names}
    tls.box.agent.stop()
    tls.box.agent.configure(names)
    (folder / "server.key").chmod(0o644)
    tls.box.ovn.sbctl(
        "clear", "Chassis_Private", tls.box.ovn.system_id, "external_ids"
    )
    logged = tls.box.agent.mark()
    try:
        instance = tls.serve(WITH_ROLE)
        wait_for(
            lambda: [
                line
                for line in tls.box.agent.status().stdout.splitlines()
                if "is not written" in line and "RBAC" in line
            ],
            timeout_s=60,
            what="a problem in agent-status",
        )
        wait_for(
            lambda: tls.box.agent.status().returncode == 5,
            timeout_s=60,
            what="a word that all is served, with a problem",
        )
        tls.instance()  # more changes, more tries
        lines = [
            line
            for line in tls.box.agent.log(logged).splitlines()
            if "heartbeat" in line and "WARNING" in line
        ]
        assert len(lines) == 1
        assert instance.fetch().status == 200
    finally:
        tls.box.agent.configure(before)


def test_role_of_ovn_controller_is_all_the_rights_it_needs(tls):
    """It registers, tells that it is alive, and serves."""
    ovn = tls.box.ovn
    ours, other = ovn.system_id, "another-chassis"
    ids = "external_ids"
    ovn.sbctl("clear", "Chassis_Private", ours, ids)
    with_role(tls)
    instance = tls.serve(WITH_ROLE)
    ovn.sync()
    (newest,) = ovn.sb.select("SB_Global", (), ["nb_cfg"])

    def registered() -> bool:
        (row,) = ovn.sb.select("Chassis_Private", [["name", "==", ours]])
        said = row["external_ids"]
        beat = int(said.get("neutron:ovn-metadata-sb-cfg", -1))
        return "neutron:ovn-metadata-id" in said and beat >= newest["nb_cfg"]

    wait_for(registered, timeout_s=60, interval_s=0.2, what="heartbeat")
    # And the role is really looked at.
    ovn.sbctl("create", "Chassis_Private", f"name={other}")
    port = instance.port.id
    try:
        assert not refused(tls, "set", "Chassis_Private", ours, f"{ids}:a=b")
        assert refused(tls, "set", "Chassis_Private", other, f"{ids}:a=b")
        assert refused(tls, "set", "Port_Binding", port, f"{ids}:a=b")
    finally:
        ovn.sbctl("destroy", "Chassis_Private", other)
    assert "Neutron may show" not in tls.box.agent.status().stdout
