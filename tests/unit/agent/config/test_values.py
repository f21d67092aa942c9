from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.config import values as types

GOOD = [
    (types.flag, "true", True),
    (types.flag, "On", True),
    (types.flag, "0", False),
    (types.flag, False, False),
    (types.whole(1, 9), "9", 9),
    (types.whole(1, 9), " 1 ", 1),
    (types.whole(0), 0, 0),
    (types.whole(0, may_be_empty=True), "", None),
    (types.one_of("http", "https"), "https", "https"),
    (types.text_line, "pä$$ wörd#", "pä$$ wörd#"),
    (types.command, " sudo -n 'a b' ", "sudo -n 'a b'"),
    (types.path, "/etc/x.conf", Path("/etc/x.conf")),
    (types.path, "/a//b/", Path("/a/b")),
    (types.folder, "/var/lib/neutron/", Path("/var/lib/neutron")),
    (types.optional_path, "", None),
    (types.optional_path, "/a.pem", Path("/a.pem")),
    (types.socket_path(5), "/abcd", Path("/abcd")),
    (types.user, "", ""),
    (types.user, "root", "root"),
    (types.user, "0", "root"),
    (types.group_id, "", None),
    (types.group_id, "root", 0),
    (types.group_id, "4711", 4711),
    (types.remote, "tcp:127.0.0.1:6640", "tcp:127.0.0.1:6640"),
    (types.remote, "unix:/run/db.sock", "unix:/run/db.sock"),
    (types.remotes, "tcp:a:1,\n ssl:[::1]:2", ("tcp:a:1", "ssl:[::1]:2")),
    (types.remotes, "tcp:a:1,tcp:a:1", ("tcp:a:1",)),
    (types.ip_versions, "4", (4,)),
    (types.ip_versions, "6, 4,6", (4, 6)),
    (types.ip_versions, "[4]", (4,)),
    (types.hosts, "nova", (("nova", None),)),
    (types.hosts, "nova.example.org.", (("nova.example.org.", None),)),
    (types.hosts, "nova_api-1:80", (("nova_api-1", 80),)),
    (types.hosts, "10.0.0.1", (("10.0.0.1", None),)),
    (types.hosts, "::1", (("::1", None),)),
    (types.hosts, "2001:DB8:0::1", (("2001:db8::1", None),)),
    (types.hosts, "[::1]", (("::1", None),)),
    (types.hosts, "[::1]:8775", (("::1", 8775),)),
    (types.hosts, "a, b:1 ,[::1]:2", (("a", None), ("b", 1), ("::1", 2))),
    (types.hosts, "a,a", (("a", None),)),
]


@pytest.mark.parametrize(("type_", "text", "expected"), GOOD)
def test_value_is_converted(type_, text, expected):
    converted = type_(text)
    assert converted == expected
    assert type(converted) is type(expected)


BAD_PATHS = [
    "",
    "a",
    "./a",
    "//a",
    "/a b",
    "/a\tb",
    "/a\nb",
    '/a"b',
    "/a'b",
    "/a\\b",
    "/a#b",
    "/a$b",
    "/a%b",
    "/a;b",
    "/a,b",
    "/a{b}",
    "/a\x00",
    "/ä",
    "/a/../b",
    "/..",
]
BAD_HOSTS = [
    "",
    ",",
    "a,,",
    "a,,b",
    "a b",
    "a\nb",
    "a/b",
    'a"',
    "a'b",
    "a\\b",
    "a#b",
    "a$b",
    "ä",
    "-a",
    "a-",
    ".a",
    "http://a",
    "user@a",
    "a:",
    "a:0",
    "a:65536",
    "a:http",
    "a:-1",
    "a:٣",
    "10.0.0.256",
    "10.0.0",
    "10",
    "[::1",
    "::1]",
    "[::1]80",
    "[::1]:",
    "[::1]:0",
    "[10.0.0.1]",
    "[nova]",
    ":::",
    "1:2:3",
    "fe80::1%eth0",
    "[fe80::1%eth0]:1",
    "a" * 254,
]
NO_GROUPS = ["no-such-group", "a\x00b", "-1", "4294967295", "9" * 99]
BAD = [
    *((types.flag, text) for text in ("", "maybe", "2", "truee")),
    *((types.whole(1, 9), text) for text in ("", "0", "10", "x", "1.5")),
    *((types.whole(5), text) for text in ("4", "-5")),
    *((types.one_of("a", "b"), text) for text in ("", "A", "c")),
    *((types.text_line, text) for text in ("a\nb", "\x00", "\x7f", "\ud800")),
    *((types.command, text) for text in ("'a", 'a "', "a\nb")),
    *((types.path, text) for text in BAD_PATHS),
    *((types.folder, text) for text in ("/", "/.", "a")),
    (types.optional_path, "a"),
    (types.socket_path(5), "/abcde"),
    *(
        (types.user, text)
        for text in ("no-such-user", "a\x00b", "-1", "4294967294", "9" * 99)
    ),
    *((types.group_id, text) for text in NO_GROUPS),
    *(
        (types.remote, text)
        for text in (
            *("", "tcp:", "127.0.0.1:6640", "TCP:a:1", "tcp:a b:1", "tcp:a"),
            *("tcp:a:0", "ssl:a:65536", "tcp:a:x", "tcp:::1:6640", "ssl:[a:1"),
        )
    ),
    (types.remote, "tcp:a:1 x"),
    *((types.remotes, text) for text in ("", ",", "tcp:a:1,,", "tcp:a:1,b")),
    *((types.ip_versions, text) for text in ("", "5", "4,5", "x", ",4")),
    *((types.hosts, text) for text in BAD_HOSTS),
]


@pytest.mark.parametrize(("type_", "text"), BAD)
def test_bad_value_is_refused_with_what_is_allowed(type_, text):
    with pytest.raises(ValueError, match=r".") as refusal:
        type_(text)
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) < 100


@given(st.text())
def test_no_host_has_a_character_that_haproxy_would_take_for_another(text):
    try:
        hosts = types.hosts(text)
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
        path = str(types.path(text))
    except ValueError:
        return
    assert path.startswith("/")
    assert not set(path) & set("#$ \n\"'\\%;,")
    assert ".." not in path.split("/")


@given(st.text(max_size=20))
def test_a_message_never_has_the_text_in_it(text):
    secret = f"s3cr3t\n{text}"
    with pytest.raises(ValueError, match="line break") as refusal:
        types.text_line(secret)
    assert "s3cr3t" not in str(refusal.value)
