"""Whatever an instance says or is named, the logs are lines of ours alone."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterator

import pytest

from sandbox import Instance, wait_for
from sandbox.attempts import send
from sandbox.case import Case, wait_served
from sandbox.sockets import ask_gateway
from sandbox.syslog import leave, listen

_TIME = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\]"
# What haproxy is told to say of a request: nothing of it can be mistaken for
# something else, for the quoted text has no quote in it. A long line is cut.
_LINE = re.compile(
    r"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d "
    r"haproxy-metadata-proxy-[0-9a-f-]{36}\[\d+\]: "
    rf"(?P<source>[0-9a-f.:]+):\d+ {_TIME} req-[-0-9a-f]{{36}} "
    r'[-+/\d]+ -?\d+ \+?\d+ \S{4} "[^"]*" "[^"]*"?'
)
_AGENT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ [A-Z]+ ")

_HOST = b" HTTP/1.1\r\nHost: m\r\n"
FORGED = b'haproxy[1]: 10.0.0.9:1 [now] 200 "GET /forged"'
REQUESTS = {
    "plain": b"GET /latest" + _HOST + b"\r\n",
    "quotes": b'GET /"x" 200 "y"' + _HOST + b"\r\n",
    "quotes without a blank": b'GET /x"200"y' + _HOST + b"\r\n",
    "backslash": b'GET /\\"\\n\\x0a' + _HOST + b"\r\n",
    "brackets, braces": b"GET /]}[{|<>^`#" + _HOST + b"\r\n",
    "percent-encoded line end": b"GET /%0d%0a" + _HOST + b"\r\n",
    "format": b"GET /%s%n%d%[src]%{+Q}o${HOME}" + _HOST + b"\r\n",
    "line end": b"GET /\r\n" + FORGED + _HOST + b"\r\n",
    "bare LF": b"GET /\n<13>" + FORGED + _HOST + b"\r\n",
    "bare CR": b"GET /\r" + FORGED + _HOST + b"\r\n",
    "NUL": b"GET /\0" + FORGED + _HOST + b"\r\n",
    "escape sequence": b"GET /\x1b[2J\x1b]0;x\x07" + _HOST + b"\r\n",
    "8-bit escape sequence": b"GET /\x9b2J\x85\xe2\x80\xa8" + _HOST + b"\r\n",
    "right to left": "GET /\u202e".encode() + _HOST + b"\r\n",
    "method": b"G\"E'T /x" + _HOST + b"\r\n",
    "method of LF": b"GET\n /x" + _HOST + b"\r\n",
    "version": b'GET /x HTTP/1.1" 200\r\nHost: m\r\n\r\n',
    "long": b"GET /" + b"a" * 9000 + _HOST + b"\r\n",
    "long, of quotes": b"GET /" + b'"' * 9000 + _HOST + b"\r\n",
    "headers": b"GET /x" + _HOST + b'User-Agent: "\\\x1b[2J\xff%s\n'
    b"Referer: \r\n " + FORGED + b"\r\nX-Instance-ID: \x9b\r\n\r\n",
    "Host": b'GET /x HTTP/1.1\r\nHost: m"\x1b[2J\r\n\r\n',
    "nothing of HTTP": b"\x1b[2J\r\n\r\n\n<0>" + FORGED + b"\n\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.fixture(scope="module")
def vm(module_case: Case) -> Instance:
    """One instance on an isolated network."""
    return module_case.instance(module_case.network("log"))


@pytest.fixture
def syslog() -> Iterator[socket.socket]:
    """Take what is sent to the host's log."""
    with listen() as link:
        link.settimeout(60)
        try:
            yield link
        finally:
            leave()


def lines_until(vm: Instance, syslog: socket.socket, path: str) -> list[str]:
    """Return what the haproxy of VM's network logs, until it has PATH.

    Others may end just now, and say so.
    """
    tag = f"haproxy-metadata-proxy-{vm.port.network.id}["
    lines: list[str] = []
    while not lines or path not in lines[-1]:
        line = syslog.recv(65536).decode("latin-1").rstrip("\n")
        if tag in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_one_line_with_nothing_raw_in_it(vm, syslog, name):
    """Of printable ASCII, of the one form, and the next one is as well."""
    # The lines of requests of before may come late.
    assert vm.fetch("/the-one-before").status == 404
    lines_until(vm, syslog, "/the-one-before")
    send(vm, REQUESTS[name])
    assert vm.fetch("/the-next-one").status == 404
    lines = lines_until(vm, syslog, "/the-next-one")
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        found = _LINE.fullmatch(line)
        assert found, line
        assert found["source"] == str(vm.port.ip4)
    # Pipelined ones have a line each; what is not HTTP may have none.
    assert len(lines) <= 3


_GATEWAY = re.compile(
    r"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d "
    r"haproxy-metadata-proxy-gateway\[\d+\]: "
    r'"req-[-0-9a-f]{36}" "[A-Za-z0-9_.:-]*" '
    r'[-+/\d]+ \d+ \d+ \S{4} \S+ "[^"]*" "[^"]*"'
)
WHO, REQUEST = "X-Instance-ID", "X-OpenStack-Request-ID"
RAW = {
    "nothing": "",
    "quotes": '"' * 36,
    "escape sequences": "\x1b[2J" * 9,
    "tabs": "a\t" * 18,
    "8 bits": "\x9b" * 36,
}


@pytest.mark.parametrize("name", RAW)
def test_who_speaks_at_the_gateway_is_quoted_in_full(box, syslog, name):
    """By a local user, or a network's haproxy that was broken into."""
    signed = "X-Instance-ID-Signature: x"
    good = (f"{WHO}: vm", f"{REQUEST}: req-{uuid.UUID(int=7)}")
    who, request = f"{WHO}: {RAW[name]}", f"{REQUEST}: req-{RAW[name]}"
    for claims in (
        *((who, good[1]), (good[0], request)),
        *((*good, who), (*good, request), good),
    ):
        ask_gateway(*claims, signed, path=f"/{claims == good}")
    lines = [""]
    while '"GET /True ' not in lines[-1]:
        line = syslog.recv(65536).decode("latin-1").rstrip("\n")
        lines += [line] * ("-gateway[" in line)
    for line in lines[1:]:
        assert line.isascii()
        assert line.isprintable()
        assert _GATEWAY.fullmatch(line), line
    assert any('"GET /False ' in line for line in lines)


def test_names_of_a_tenants_choice_are_not_the_agents_words(box, case):
    """A port's and a network's name; the rest of a row is Neutron's."""
    forged = "\n2026-01-01 00:00:00.000 1 ERROR forged [-] \x1b[2J\r\n%s"
    before = box.agent.mark()
    network = case.network(f"net{forged}")
    ports = [
        box.neutron.create_port(network, name=f"vm{forged}", **more)
        for more in ({}, {"instance_id": f"id{forged}"})
    ]
    box.plug(ports)
    wait_served(box.instances[-2])
    box.unplug(box.instances[-2:])
    for word in ("provisioned", "removed"):
        wait_for(
            lambda word=word: (
                f"{word} network={network.id}" in box.agent.log(before)
            ),
            timeout_s=60,
            what=f"the network's line: {word}",
        )
    # The last line may be there in part.
    for line in box.agent.log(before).rpartition("\n")[0].split("\n"):
        assert not line or _AGENT_LINE.match(line), line
        assert line.isprintable()
