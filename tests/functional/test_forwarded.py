"""Who has somebody else's request sent: by a trick, or through a proxy."""

import contextlib
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, wait_for
from sandbox.daemons import Daemon
from sandbox.shielded import DOCUMENT, ID, PROJECTS, TOKEN, new_token

PROXIES = {
    "nginx": {"X-Real-IP": "10.0.0.1", "X-Forwarded-For": "10.0.0.1"},
    "haproxy": {"X-Forwarded-For": "10.0.0.1"},
    "squid": {"Via": "1.1 h (squid/5.7)", "X-Forwarded-For": "unknown"},
    "envoy": {"X-Forwarded-Proto": "http", "X-Request-Id": "x"},
    "envoy, inside": {"X-Envoy-Internal": "true"},
    "traefik": {"X-Forwarded-Host": "a", "X-Real-Ip": "10.0.0.1"},
    "RFC 7239": {"Forwarded": "for=10.0.0.1"},
    "apache": {"X-Forwarded-Host": "a", "Via": "1.1 a"},
    "empty": {"X-Forwarded-For": ""},
    "capitals": {"X-FORWARDED-FOR": "10.0.0.1"},
}


# ---------------------------------------- an application that is tricked

HERE = "169.254.169.254"
TARGET = "/latest/meta-data/instance-id"
CURL = ("curl", "-sS", "-i", "-m", "20")
# What gopher: does in many libraries: it sends what the URL has. The curl of
# Debian sid refuses one with several lines.
GOPHER = """
import socket, sys, urllib.parse
with socket.create_connection((sys.argv[1], 80), 20) as link:
    link.sendall(urllib.parse.unquote_to_bytes(sys.argv[2]))
    with link.makefile() as answer:
        print(answer.read())
"""
TRICKS = {
    "plain": [f"http://{HERE}{TARGET}"],
    "decimal": [f"http://2852039166{TARGET}"],
    "hexadecimal": [f"http://0xa9fea9fe{TARGET}"],
    "octal": [f"http://0251.0376.0251.0376{TARGET}"],
    "two parts": [f"http://169.16689662{TARGET}"],
    "IPv6-mapped": [f"http://[::ffff:{HERE}]{TARGET}"],
    "a user in front": [f"http://example.com@{HERE}{TARGET}"],
    "a name that leads there": [
        *("--resolve", f"rebound.example:80:{HERE}"),
        f"http://rebound.example{TARGET}",
    ],
    "as a proxy": ["-x", f"http://{HERE}:80", f"http://example.com{TARGET}"],
    "gopher": [f"GET%20{TARGET}%20HTTP/1.0%0d%0a%0d%0a"],
    "a header of its own": [
        *("-H", f"{TOKEN}: none", "-H", "Host: localhost"),
        f"http://{HERE}{TARGET}",
    ],
    "gopher with a token": [
        f"GET%20{TARGET}%20HTTP/1.1%0d%0a{TOKEN}:%20x"
        "%0d%0aConnection:%20close%0d%0aHost:%20x%0d%0a%0d%0a",
    ],
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_tricked_application_gets_nothing(vms, name):
    """It fetches an address that somebody else gave it."""
    fetch = CURL
    if name.startswith("gopher"):
        fetch = (sys.executable, "-Ic", GOPHER, HERE)
    off, required = vms["off"], vms["required"]
    said = off.execute(*fetch, *TRICKS[name])
    assert off.instance_id in said, "the trick does not work"
    said = required.execute(*fetch, *TRICKS[name])
    assert said.split()[1] == "401"
    assert required.instance_id not in said


def test_a_redirect_gets_nothing(vms):
    """The application asks a server outside, which sends it here."""
    vm = vms["required"]
    answer = (
        f"HTTP/1.1 302 Found\r\nLocation: http://{HERE}{TARGET}\r\n"
        f"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    vm.execute("ip", "link", "set", "lo", "up")
    with vm.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 8080))
        server.listen()
        server.settimeout(60)

        def redirect() -> None:
            link, _ = server.accept()
            with link:
                link.recv(4096)
                link.sendall(answer.encode())

        thread = threading.Thread(target=redirect)
        thread.start()
        said = vm.execute(
            *("curl", "-sS", "-L", "-m", "20", "-w", "%{http_code}"),
            "http://127.0.0.1:8080/",
        )
        thread.join()
    assert said.endswith("401")
    assert vm.instance_id not in said


# ------------------------------------------------- forwarded requests


@pytest.mark.parametrize("name", PROXIES)
def test_what_came_through_a_proxy(shielded, vms, name):
    headers = PROXIES[name]
    shielded.nova.record()
    found = {p: vms[p].fetch(ID, headers=headers).status for p in PROJECTS}
    refused = {"enforce": 403, "both": 403, "required": 401}
    assert found == {**dict.fromkeys(PROJECTS, 200), **refused}
    told = "".join(map(bytes.decode, shielded.nova.recorded())).lower()
    assert "10.0.0.1" not in told.replace("10.10.0.1", "")
    answer = vms["enforce"].fetch(DOCUMENT, headers=headers)
    assert answer.status == 403
    assert "came through a proxy" in answer.text


def test_a_good_token_does_not_make_up_for_a_proxy(vms):
    vm = vms["both"]
    headers = {TOKEN: new_token(vm)}
    assert vm.fetch(ID, headers=headers).status == 200
    headers["Via"] = "1.1 x"
    assert vm.fetch(ID, headers=headers).status == 403


# ------------------------------------------------- forwarders for real

NGINX = """daemon off;
master_process off;
error_log stderr;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/b;
    proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://169.254.169.254;
            {more}
        }}
    }}
}}
"""
HAPROXY = """defaults
    mode http
    timeout connect 30s
    timeout client 30s
    timeout server 30s
listen all
    bind 127.0.0.1:{port}
    {more}
    server metadata 169.254.169.254:80
"""
SQUID = """http_port 127.0.0.1:{port}
http_access allow all
cache deny all
access_log none
cache_log {folder}/log
pid_filename none
coredump_dir {folder}
shutdown_lifetime 0 seconds
visible_hostname inside
"""
USUAL = """proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"""
# What is run, its configuration, what is added to it, and what it gets where
# all is enforced: the last ones add no header, but have no token.
REAL = {
    "squid": (("squid", "-N", "-n", "{name}", "-f"), SQUID, "", "403"),
    "nginx": (("nginx", "-e", "stderr", "-c"), NGINX, USUAL, "403"),
    "haproxy": (("haproxy", "-f"), HAPROXY, "option forwardfor", "403"),
    "bare nginx": (("nginx", "-e", "stderr", "-c"), NGINX, "", "401"),
    "bare haproxy": (("haproxy", "-f"), HAPROXY, "", "401"),
}


@contextlib.contextmanager
def forwarder(
    vm: Instance, name: str, folder: Path
) -> Iterator[tuple[str, ...]]:
    """Run NAME in VM; provide the arguments with which curl asks by it."""
    command, text, more, _ = REAL[name]
    port = 8000 + [*REAL].index(name)
    folder.chmod(0o777)  # squid has a user of its own
    config = folder / "forwarder.conf"
    config.write_text(text.format(folder=folder, port=port, more=more))
    vm.execute("ip", "link", "set", "lo", "up")
    words = ("ip", "netns", "exec", vm.namespace, *command, str(config))
    # A name for its shared memory, which is the whole machine's.
    words = tuple(word.format(name=vm.port.id[:8]) for word in words)
    program = Daemon(name, words, folder / "out")
    program.start()

    def listens() -> bool:
        with vm.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            return link.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens, timeout_s=90, what=name)
        here = f"http://127.0.0.1:{port}"
        there = f"http://{HERE}{TARGET}"
        yield ("-x", here, there) if name == "squid" else (f"{here}{TARGET}",)
    finally:
        program.stop()


@pytest.mark.parametrize("name", REAL)
def test_a_real_forwarder_gets_nothing(vms, name):
    """The way it is installed, in the instance, asked by somebody else."""
    command, *_, refused = REAL[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}: `make functional` installs it")
    for project, expected in (("off", "200"), ("both", refused)):
        vm = vms[project]
        with (
            tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
            forwarder(vm, name, Path(folder)) as asked,
        ):
            curl = ("curl", "-sS", "-m", "25", "-w", " %{http_code}")
            said = vm.execute(*curl, *asked).split()
        assert said[-1] == expected
        assert (vm.instance_id in said) == (expected == "200")
