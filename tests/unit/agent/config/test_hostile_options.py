"""Whatever is in a file, the agent has settings or one line of refusal.

Random files: bytes that no editor writes, and values of the agent's own
options that are nearly right.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.settings import all_options
from ovn_metadata.agent.errors import ConfigError

SECRET = "s3cr3t-of-the-cloud"
OWN = [option for _, _, option in all_options()]
NASTY = [
    *("", " ", "0", "-1", "1", "true", "4", "80", "65536", "1e3", "٣"),
    *("2147483647", "99999999999999999999", "nan", "0x10", "1_0", "+1"),
    *("/", "/a", "//a", "/a/../b", "/a b", "/" + "a" * 5000, "~", "."),
    *("127.0.0.1", "::1", "[::1]:80", "[::1", "a:b:c", "tcp:127.0.0.1:1"),
    *("ssl:[::1]:6642", "unix:/x", "unix:", "tcp::1", "a,b", ",", ",,"),
    *("$state_path", "$nothing", "$$", "$", "${", "${state_path}", "%(x)s"),
    *("'", '"', "'a", "\\", "a\\\n b", "#", ";", "[", "]", "=", "\x00"),
    *("\x0c", "\x85", "\u2028", "\u202e", "\ufeff", "é", "\U0001f4a5"),
    *("root", "nobody", "no-such-user", "deduce", "http", "https", "DEBUG"),
]

values = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)
lines = st.one_of(
    st.builds(
        lambda option, value: f"[{option.section}]\n{option.name} = {value}\n",
        st.sampled_from(OWN),
        values,
    ),
    st.builds("{} = {}\n".format, values, values),
    st.builds("[{}]\n".format, values),
    values,
)
texts = st.lists(lines, max_size=6).map("".join)
contents = st.one_of(
    texts.map(str.encode),
    st.builds(bytes.__add__, texts.map(str.encode), st.binary(max_size=20)),
)


@given(contents)
@example(b"[ovn_metadata_agent]\n\x1b=")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_or_refused_in_one_line(file: Path, content: bytes):
    secret = f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n"
    file.write_bytes(secret.encode() + content)
    empty = file.parent / "empty"
    empty.mkdir(exist_ok=True)
    argv = ["--config-dir", str(empty), "--config-file", str(file)]
    try:
        found = options.load(argv)[1]
    except ConfigError as error:
        said = [str(error)]
    else:
        said = [*found.warnings, repr(found)]
    for line in said:
        assert line.isprintable(), line
        assert len(line) < 10_000
        assert SECRET not in line
