"""Connections to an OVSDB server: names, files, handshakes that fail.

With the real library and a real server; no agent runs. What the agent makes
of it under load is in test_database_links.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ovsdbapp.backend.ovs_idl import idlutils

from ovn_metadata.agent.ovsdb import connect, streams
from sandbox import wait_for
from sandbox.daemons import Daemon, run
from sandbox.files import put
from sandbox.tls import Authority, Identity, answering, running, server

PORT = 6651
SSL = f"ssl:127.0.0.1:{PORT}"
SCHEMA = "Open_vSwitch"
SCHEMA_FILE = "/usr/share/openvswitch/vswitch.ovsschema"
RETRY_MS = 300
MOST_CPU = 0.05 * 1000 / RETRY_MS  # the agent tries once a second at most
OURS = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
SOON_S = 60.0


@dataclasses.dataclass
class Site:
    """A server's database and the certificates of both sides."""

    folder: Path
    good: Authority
    other: Authority
    identity: Identity
    files: dict[str, Path]  # option -> the file that is configured

    def put_right(self) -> None:
        """Have good files in all places."""
        client = self.good.issue("client")
        for option, file in zip(
            OURS,
            (client.key, client.certificate, self.good.certificate),
            strict=True,
        ):
            with contextlib.suppress(IsADirectoryError, FileNotFoundError):
                self.files[option].unlink()
            shutil.rmtree(self.files[option], ignore_errors=True)
            shutil.copy(file, self.files[option])

    def use(self, client: Identity) -> None:
        """Put the files of CLIENT in place."""
        shutil.copy(client.key, self.files[OURS[0]])
        shutil.copy(client.certificate, self.files[OURS[1]])

    def server(
        self,
        identity: Identity | None = None,
        trusted: Authority | None = None,
        *,
        host: str = "127.0.0.1",
    ) -> Daemon:
        """Return a server, which shows IDENTITY and TRUSTs an authority.

        At each HOST it has a database of its own.
        """
        database = self.folder / f"{host}.db"
        if not database.exists():
            run("ovsdb-tool", "create", str(database), SCHEMA_FILE)
        return server(
            self.folder,
            f"{PORT}:{host}",
            identity or self.identity,
            (trusted or self.good).certificate,
            database=str(database),
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("streams")
    good, other = Authority(folder), Authority(folder, "other")
    files = {option: folder / option for option in OURS}
    names = ("private_key", "certificate", "ca_cert")
    connect.use_certificates(
        types.SimpleNamespace(**dict(zip(names, files.values(), strict=True)))
    )
    made = Site(folder, good, other, good.issue("server"), files)
    made.put_right()
    return made


def reason() -> str:
    """Return why the server can't be asked, as the log has it."""
    with pytest.raises(ConnectionError) as refused:
        connect.ask_first(SSL, "get_schema", [SCHEMA])
    return str(refused.value)


def wait_schema(remote: str) -> Any:
    """Return the schema from REMOTE, once it answers.

    A server has its control socket before it listens, and it may stand still
    for longer than an answer may take.
    """
    return wait_for(
        lambda: connect.ask_first(remote, "get_schema", [SCHEMA]),
        timeout_s=SOON_S,
        what=f"an answer of {remote}",
    )


@contextlib.contextmanager
def followed(site: Site, remote: str = SSL) -> Iterator[connect.Idl]:
    """Provide a copy of the database's rows."""
    helper = idlutils.create_schema_helper(wait_schema(remote))
    helper.register_columns(SCHEMA, ["external_ids"])
    idl = connect.Idl(remote, helper)
    reconnect = idl._session.reconnect
    # `set_backoff` takes no less than a second.
    reconnect.min_backoff = reconnect.max_backoff = RETRY_MS
    link = connect.start(idl, 60)
    try:
        yield idl
    finally:
        link.stop()


@contextlib.contextmanager
def followed_once(site: Site) -> Iterator[connect.Idl]:
    """Provide a copy of the rows of a server that has ended."""
    with contextlib.ExitStack() as stack:
        with running(site.server()):
            idl = stack.enter_context(followed(site))
        yield idl


def wait_back(idl: connect.Idl) -> None:
    wait_for(idl.is_connected, timeout_s=SOON_S, what=f"rows; {idl.problem()}")
    assert idl.problem() == ""


def wait_reason(idl: connect.Idl, reason: str) -> None:
    """Wait until IDL is disconnected because of REASON, an expression."""
    wait_for(
        lambda: not idl.is_connected() and re.search(reason, idl.problem()),
        timeout_s=SOON_S,
        what=f"reason {reason}; {idl.problem()}",
    )


def check_costs_little(idl: connect.Idl) -> None:
    """Fail if IDL's tries cost much: what else is done here adds to it."""
    shares = [share_of_cpu(idl)]
    while len(shares) < 3 and shares[-1] >= MOST_CPU:
        shares.append(share_of_cpu(idl))
    assert shares[-1] < MOST_CPU, shares


def share_of_cpu(idl: connect.Idl, tries: int = 6) -> float:
    """Return the share of a CPU that this process needs for TRIES."""

    def tried() -> int:
        return idl._session.reconnect.get_stats(0).n_attempted_connections

    before, begun, used = tried(), time.monotonic(), time.process_time()
    wait_for(
        lambda: tried() >= before + tries,
        timeout_s=180,
        interval_s=0.2,
        what=f"{tries} tries",
    )
    return (time.process_time() - used) / (time.monotonic() - begun)


# ---------------------------------------------------------------- files

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No such file or directory"),
    "empty": (lambda f: f.write_text(""), "NO_CERTIFICATE|incomplete"),
    "cut off": (lambda f: f.write_text(f.read_text()[:150]), "incomplete"),
    "a folder": (lambda f: (f.unlink(), f.mkdir()), "Is a directory"),
}


@pytest.mark.parametrize("option", OURS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_cant_be_used_is_named(site, option, damage):
    harm, said = DAMAGES[damage]
    with running(site.server()):
        harm(site.files[option])
        try:
            expected = rf"{option} {site.files[option]}: .*({said})"
            assert re.match(expected, reason())
        finally:
            site.put_right()
        wait_schema(SSL)


def test_key_of_another_certificate_is_named(site):
    """Half of a renewal is there."""
    with running(site.server()):
        shutil.copy(
            site.good.issue("renewed").certificate, site.files[OURS[1]]
        )
        try:
            assert "ovn_sb_private_key" in reason()
            assert "KEY_VALUES_MISMATCH" in reason()
        finally:
            site.put_right()


def test_key_with_a_passphrase_is_named(site):
    """It is asked for nowhere, not even if there is a terminal."""
    locked = site.folder / "locked.key"
    run(
        *("openssl", "pkcs8", "-topk8", "-passout", "pass:secret"),
        *("-in", str(site.files[OURS[0]]), "-out", str(locked)),
    )
    with running(site.server()):
        shutil.copy(locked, site.files[OURS[0]])
        try:
            assert re.match("ovn_sb_private_key .*passphrase", reason())
        finally:
            site.put_right()


def test_renewed_files_are_taken_up(site):
    """All that an authority signed is replaced while it is disconnected."""
    with followed_once(site) as idl:
        try:
            site.files[OURS[0]].unlink()
            wait_reason(idl, "ovn_sb_private_key .*No such file")
            check_costs_little(idl)
            new = Authority(site.folder, "new")
            shutil.copy(new.certificate, site.files[OURS[2]])
            renewed = new.issue("renewed")
            site.use(renewed)
            with running(site.server(new.issue("server-new"), new)):
                wait_back(idl)
        finally:
            site.put_right()


# ----------------------------------------------------------- handshakes


def say_http(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def say_nothing(link: socket.socket) -> None:
    while link.recv(4096):
        pass


@contextlib.contextmanager
def bad_server(site: Site, kind: str) -> Iterator[str]:
    """Have a server of KIND; provide the reason that is to be seen."""
    verify = "certificate verify failed: "
    named = rf".* \(ovn_sb_ca_cert {site.files[OURS[2]]}\)"
    refuses = f"it refuses ovn_sb_certificate {site.files[OURS[1]]}: "
    address = ("127.0.0.1", PORT)
    with contextlib.ExitStack() as stack:
        if kind == "not trusted":
            stranger = site.other.issue("stranger")
            stack.enter_context(running(site.server(stranger)))
            yield verify + named
        elif kind == "expired":
            old = site.good.issue("old", expired=True)
            stack.enter_context(running(site.server(old)))
            yield f"{verify}certificate has expired{named}"
        elif kind.startswith("ours is"):
            stack.callback(site.put_right)
            stranger = site.other.issue("stranger")
            old = site.good.issue("old", expired=True)
            site.use(old if kind.endswith("expired") else stranger)
            stack.enter_context(running(site.server()))
            yield refuses + r"\w+_(EXPIRED|UNKNOWN_CA)"
        elif kind == "closes":
            stack.enter_context(answering(address, lambda link: None))
            yield "closed before the handshake ended|reset by peer"
        elif kind == "no TLS":
            stack.enter_context(answering(address, say_http))
            yield "WRONG_VERSION_NUMBER|reset by peer"
        else:
            stack.enter_context(answering(address, say_nothing))
            yield "it does not answer"


BAD = (
    *("not trusted", "expired", "ours is not trusted", "ours is expired"),
    *("closes", "no TLS", "silent"),
)


@pytest.mark.parametrize("kind", BAD)
def test_failed_handshake_is_a_failed_connection(site, kind):
    """It is retried with back-off, and connects once that is put right."""
    with followed_once(site) as idl:
        with bad_server(site, kind) as why:
            wait_reason(idl, f"^{SSL}: .*({why})")
            check_costs_little(idl)
        with running(site.server()):
            wait_back(idl)


@pytest.mark.parametrize("kind", ["not trusted", "closes"])
def test_bad_server_of_two_is_passed_over(site, kind):
    good = site.server(host="127.0.0.2")
    remotes = f"{SSL},ssl:127.0.0.2:{PORT}"
    with (
        bad_server(site, kind),
        running(good),
        followed(site, remotes) as idl,
    ):
        good.stop()
        wait_reason(idl, "127.0.0.2.*(closed|refused)")
        good.start()
        wait_back(idl)


# ---------------------------------------------------------- slow servers


def test_server_that_is_slow_gets_more_time(site, tmp_path, monkeypatch):
    """A busy one answers each connection late: the handshake, too."""
    monkeypatch.setattr(connect, "_PATIENCE_MS", 300)
    monkeypatch.setattr(connect, "_patience_ms", {})
    control = tmp_path / "delayed"
    command = (sys.executable, "-m", "sandbox.delayed", str(PORT))
    relay = Daemon(
        "delayed",
        (*command, "127.0.0.2", "0.3", str(control)),
        tmp_path / "delayed.out",
        ready=control,
    )
    reasons = []
    with running(site.server(host="127.0.0.2")), running(relay):
        for _ in range(5):
            try:
                assert connect.ask_first(SSL, "get_schema", [SCHEMA])
                break
            except ConnectionError as error:
                reasons.append(str(error))
    # The handshake takes 0.6 s, and so does the answer.
    slow = "it accepts connections and does not answer"
    assert reasons == [slow] * len(reasons)
    assert 2 <= len(reasons) < 5


# ---------------------------------------------------------------- names

NAME = "db.example"
NAMED = f"ssl:{NAME}:{PORT}"
SILENT = "192.0.2.9"  # the kernel drops what is sent there


@pytest.fixture
def hosts() -> Iterator[Callable[..., None]]:
    """Provide what gives NAME its addresses, in this sandbox alone."""
    file = Path("/etc/hosts")
    before = file.read_text()

    def set_addresses(*addresses: str) -> None:
        lines = [f"{address} {NAME}\n" for address in addresses]
        put(file, before + "".join(lines))

    yield set_addresses
    put(file, before)


@pytest.fixture
def dropped() -> Iterator[None]:
    """Have an address that never answers."""
    run("ip", "route", "add", f"{SILENT}/32", "dev", "lo")
    yield
    run("ip", "route", "del", f"{SILENT}/32", "dev", "lo")


@pytest.mark.parametrize("live", ["127.0.0.1", "::1"])
def test_name_with_dead_addresses(site, hosts, dropped, live):
    """One refuses, one never answers; it is the same after a lost link."""
    hosts(SILENT, "127.0.0.7", live, "::7")
    listens = f"[{live}]" if ":" in live else live
    good = site.server(host=listens)
    with running(good), followed(site, NAMED) as idl:
        good.stop()
        wait_reason(idl, f"^{NAMED}: ")
        good.start()
        wait_back(idl)


def test_address_in_brackets(site):
    with running(site.server(host="[::1]")):
        wait_schema(f"ssl:[::1]:{PORT}")


def test_name_that_moves(site, hosts):
    """It is looked up again for each try; so is one that was gone."""
    hosts("127.0.0.2")
    with contextlib.ExitStack() as stack:
        with running(site.server(host="127.0.0.2")):
            idl = stack.enter_context(followed(site, NAMED))
        hosts()
        wait_reason(idl, f"^{NAMED}: Connection refused")
        hosts("127.0.0.3")
        with running(site.server(host="127.0.0.3")):
            wait_back(idl)


def test_name_server_that_hangs_holds_nothing_up(site, hosts):
    """A known address still counts; the IDL's thread waits for no name."""
    resolver = Path("/etc/resolv.conf")
    before = resolver.read_text()
    hosts("127.0.0.2")
    good = site.server(host="127.0.0.2")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.9", 53))
        with running(good), followed(site, NAMED) as idl:
            try:
                put(resolver, "nameserver 127.0.0.9\noptions timeout:30")
                hosts()
                good.stop()
                wait_reason(idl, ".")
                good.start()
                wait_back(idl)
                assert NAME in streams.NAMES._begun  # a look-up hangs
            finally:
                put(resolver, before)


def test_name_that_nobody_knows_is_the_reason():
    with pytest.raises(ConnectionError, match=r"^no\.example: "):
        connect.ask_first(f"tcp:no.example:{PORT}", "get_schema", [SCHEMA])


def test_no_name_for_the_librarys_own_resolver(site, hosts, monkeypatch):
    """It is there with `unbound` and knows one address of a name."""
    resolver = pytest.importorskip("ovs.dns_resolve")
    monkeypatch.delattr(resolver, "resolve")
    hosts("127.0.0.1")
    with running(site.server()):
        wait_schema(NAMED)


# ------------------------------------------------------------ keepalive


def test_kernel_finds_a_silent_server(site):
    with running(site.server()), followed(site) as idl:
        sock = idl._session.rpc.stream.socket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (
            *(socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT),
            *(socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY),
        )
        found = [sock.getsockopt(socket.IPPROTO_TCP, o) for o in options]
        assert found == [5, 5, 2, 15_000, 1]
