from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.config import values
from ovn_metadata.agent.config.settings import all_options

GOOD = [
    (values.FLAG, "true", True),
    (values.FLAG, "On", True),
    (values.FLAG, "0", False),
    (values.FLAG, False, False),
    (values.whole(1, 9), "9", 9),
    (values.whole(1, 9), " 1 ", 1),
    (values.whole(0), 0, 0),
    (values.optional(values.whole(0)), "", None),
    (values.choice("http", "https"), "https", "https"),
    (values.TEXT, "pä$$ wörd#", "pä$$ wörd#"),
    (values.COMMAND, " sudo -n 'a b' ", "sudo -n 'a b'"),
    (values.PATH, "/etc/x.conf", Path("/etc/x.conf")),
    (values.PATH, "/a//b/", Path("/a/b")),
    (values.FOLDER, "/var/lib/neutron/", Path("/var/lib/neutron")),
    (values.FILE, "", None),
    (values.FILE, "/a.pem", Path("/a.pem")),
    (values.SOCKET, "/" + "a" * 106, Path("/" + "a" * 106)),
    (values.MAYBE_SOCKET, "", None),
    (values.MAYBE_SOCKET, "/m.sock", Path("/m.sock")),
    (values.MAYBE_LISTENER, "", None),
    (values.MAYBE_LISTENER, "127.0.0.1:9755", ("127.0.0.1", 9755)),
    (values.MAYBE_LISTENER, "[2001:DB8::1]:9755", ("2001:db8::1", 9755)),
    (values.NAME, " compute-1 ", "compute-1"),
    (values.COMMAND, " doas ", "doas"),
    (values.COMMAND, "", None),
    (values.USER, "", None),
    (values.USER, "root", "root"),
    (values.USER, "0", "root"),
    (values.GROUP, "", None),
    (values.GROUP, "root", 0),
    (values.GROUP, "4711", 4711),
    (values.REMOTE, "tcp:127.0.0.1:6640", "tcp:127.0.0.1:6640"),
    (values.REMOTE, "unix:/run/db.sock", "unix:/run/db.sock"),
    (values.REMOTES, "tcp:a:1,\n ssl:[::1]:2", ("tcp:a:1", "ssl:[::1]:2")),
    (values.REMOTES, "tcp:a:1,tcp:a:1", ("tcp:a:1",)),
    (values.IP_VERSIONS, "4", (4,)),
    (values.IP_VERSIONS, "6, 4,6", (4, 6)),
    (values.IP_VERSIONS, "[4]", (4,)),
    (values.HOSTS, "nova", (("nova", None),)),
    (values.HOSTS, "nova.example.org.", (("nova.example.org.", None),)),
    (values.HOSTS, "nova_api-1:80", (("nova_api-1", 80),)),
    (values.HOSTS, "10.0.0.1", (("10.0.0.1", None),)),
    (values.HOSTS, "::1", (("::1", None),)),
    (values.HOSTS, "2001:DB8:0::1", (("2001:db8::1", None),)),
    (values.HOSTS, "[::1]", (("::1", None),)),
    (values.HOSTS, "[::1]:8775", (("::1", 8775),)),
    (values.HOSTS, "a, b:1 ,[::1]:2", (("a", None), ("b", 1), ("::1", 2))),
    (values.HOSTS, "a,a", (("a", None),)),
]


@pytest.mark.parametrize(("kind", "text", "expected"), GOOD)
def test_value_is_converted(kind, text, expected):
    converted = kind(text)
    assert converted == expected
    assert type(converted) is type(expected)


BAD_PATHS = [
    *("a", "", "./a", "//a", "/a b", "/a\tb", "/a\nb", '/a"b', "/a'b"),
    *("/a\\b", "/a#b", "/a$b", "/a%b", "/a;b", "/a,b", "/a{b}", "/a\x00"),
    *("/ä", "/a/../b", "/.."),
]
BAD_HOSTS = [
    *("http://a:8775", "http://a:8775/", "https://[::1]:1", "a:1/", "//a"),
    *("http://a", "", ",", "a,,", "a,,b", "a b", "a\nb", "a/b", 'a"', "a'b"),
    *("a\\b", "a#b", "a$b", "ä", "-a", "a-", ".a", "user@a", "a:", "a:0"),
    *("a:65536", "a:http", "a:-1", "10.0.0.256", "10.0.0", "10", "[::1"),
    *("::1]", "[::1]80", "[::1]:", "[::1]:0", "[10.0.0.1]", "[nova]", ":::"),
    *("1:2:3", "fe80::1%eth0", "[fe80::1%eth0]:1", "a" * 254),
]
# Of every kind of value, what must be refused. The one table of those:
# test_options.py puts them into a file for each option.
BAD = {
    values.FLAG: ("maybe", "", "2", "truee"),
    values.TEXT: ("a\nb", "\x00", "\x7f", "\ud800"),
    values.NAME: ("a\nb",),
    values.COMMAND: ("sudo 'a", 'a "', "a\nb"),
    values.PATH: BAD_PATHS,
    values.FILE: [path for path in BAD_PATHS if path],
    values.FOLDER: ["/", "/.", *BAD_PATHS],
    values.STATE_PATH: ["/", *BAD_PATHS, "/" + "a" * 60],
    values.SOCKET: [*BAD_PATHS, "/" + "a" * 107],
    values.MAYBE_SOCKET: [
        *(path for path in BAD_PATHS if path),
        "/" + "a" * 107,
    ],
    values.MAYBE_LISTENER: (
        *("nova:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", ":9755", "::1"),
        *("127.0.0.1:65536", "[::1]", "::1:80", "http://127.0.0.1:80", "9755"),
        *("[fe80::1%eth0]:1", "10.0.0.256:80", "1:2:3"),
    ),
    values.USER: ("no-such-user", "a\x00b", "-1", "4294967294", "9" * 99),
    values.GROUP: ("no-such-group", "a\x00b", "-1", "4294967295", "9" * 99),
    values.REMOTE: (
        *("127.0.0.1:6640", "", "tcp:", "TCP:a:1", "tcp:a b:1", "tcp:a"),
        *("tcp:a:0", "ssl:a:65536", "tcp:a:x", "tcp:::1:6640", "ssl:[a:1"),
        *("tcp://a:1", "http://a:1", "tcp:a/:1", "tcp:a:1/", "ssl:[::1/]:1"),
        *("tcp:a:1 x", "tcp:a:1,tcp:b:1", "tcp:a:٣"),
    ),
    values.REMOTES: ("tcp:a:1,b", "", ",", "tcp:a:1,,"),
    values.IP_VERSIONS: ("5", "", "4,5", "x", ",4"),
    values.HOSTS: BAD_HOSTS,
}


def bad_texts(kind: values.Value) -> Sequence[str]:
    """Return what KIND must refuse."""
    if limits := re.match(r"an integer from (\d+) to (\d+)", kind.allowed):
        low, high = map(int, limits.groups())
        return ("many", "1.5", "10s", str(low - 1), str(high + 1))
    if kind.allowed.startswith("one of "):
        return ("something", "", " ")
    return BAD[kind]


KINDS = {option.value.allowed: option.value for _, _, option in all_options()}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(k, text) for k in {*KINDS.values(), *BAD} for text in bad_texts(k)],
)
def test_bad_value_is_refused_with_what_is_allowed(kind, text):
    with pytest.raises(ValueError, match=r".") as refusal:
        kind(text)
    # Never with the text, which may be a secret.
    assert str(refusal.value) == f"must be {kind.allowed}"
    assert kind.allowed.isprintable()


def test_a_url_in_place_of_a_host_is_called_one():
    with pytest.raises(ValueError, match="host name or address, not a URL"):
        values.HOSTS("http://nova.example:8775")


@pytest.mark.parametrize("kind", [values.COUNT, values.whole(0)])
def test_a_number_is_not_empty(kind):
    with pytest.raises(ValueError, match="must be an integer"):
        kind("")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", True), ("fd00::1", True), ("nova", False), ("1.2", False)],
)
def test_is_address(host, expected):
    assert values.is_address(host) is expected


@given(st.text())
def test_no_host_has_a_character_that_haproxy_would_take_for_another(text):
    try:
        hosts = values.HOSTS(text)
    except ValueError:
        return
    allowed = set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-"
    )
    for host, port in hosts:
        assert host
        assert set(host) <= allowed
        assert port is None or 1 <= port <= 65535


@given(st.text(alphabet="/ab.#$ \n\"'\\%;,", max_size=12))
def test_a_path_has_no_character_of_haproxy_or_supervisord(text):
    try:
        path = str(values.PATH(text))
    except ValueError:
        return
    assert path.startswith("/")
    assert not set(path) & set("#$ \n\"'\\%;,")
    assert ".." not in path.split("/")
