from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from ovn_metadata.agent.config.sources import Options, Sources, parse
from ovn_metadata.agent.errors import ConfigError

HOST = cfg.StrOpt("host", deprecated_name="ip", default="localhost")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(*files: Path) -> Sources:
    return Sources((str(file), parse(str(file))) for file in files)


def files_read(
    *argv: str, files: list[str] | None = None, dirs: list[str] | None = None
) -> list[str]:
    """Return the files that are read for ARGV; FILES and DIRS: if none."""
    conf = Options()
    conf.register_cli_opt(cfg.BoolOpt("debug"))
    conf(argv, default_config_files=files, default_config_dirs=dirs or [])
    return [file for file, _ in conf.files]


def test_files_in_the_order_in_which_they_are_named(tmp_path: Path):
    one = write(tmp_path / "one.ini", "")
    two = write(tmp_path / "two.ini", "")
    b = write(tmp_path / "d" / "b.conf", "")
    a = write(tmp_path / "d" / "a.conf", "")
    write(tmp_path / "d" / "c.ini", "")
    write(tmp_path / "d" / ".hidden.conf", "")
    argv = [f"--config-file={one}", "--debug", "--config-d", str(b.parent)]
    argv += ["--config-file", str(two)]
    expected = [str(file) for file in (one, a, b, two)]
    assert files_read(*argv, files=["/x"], dirs=["/y"]) == expected


def test_defaults_stand_in_for_what_is_not_named(tmp_path: Path):
    one = str(write(tmp_path / "one.conf", ""))
    inside = str(write(tmp_path / "d" / "a.conf", ""))

    def found(*argv: str) -> list[str]:
        return files_read(*argv, files=[one], dirs=[str(tmp_path)])

    assert found() == [one, one]
    # As oslo.config does it: default folders come before what is named.
    assert found("--config-file", inside) == [one, inside]
    assert found("--config-dir", str(tmp_path / "d")) == [one, inside]


@pytest.mark.parametrize(
    ("given", "shown"), [("d", "{}/d"), ("../d", "{.parent}/d"), ("", "--con")]
)
def test_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch, given, shown
):
    """Whoever reads the log does not know the agent's working folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be listed: No") as caught:
        files_read("--config-dir", given)
    assert str(caught.value).startswith(shown.format(tmp_path))


def test_last_file_that_has_the_option_is_its_origin(tmp_path: Path):
    one = write(tmp_path / "one", "[DEFAULT]\nhost = a\nhost = b\n")
    two = write(tmp_path / "two", "[DEFAULT]\nother = c\n")
    origin = read(one, two).find("DEFAULT", HOST)
    assert origin.place == f"{one}: [DEFAULT] host"
    assert origin.text == "b"


def test_oslo_config_would_blame_the_last_file_with_the_section(
    tmp_path: Path,
):
    """Why `find` is there; delete it when this fails."""
    one = write(tmp_path / "one", "[DEFAULT]\nhost = a\n")
    two = write(tmp_path / "two", "[DEFAULT]\nother = c\n")
    conf = cfg.ConfigOpts()
    conf.register_opts([HOST])
    conf([f"--config-file={one}", f"--config-file={two}"])
    location = conf.get_location("host")
    assert location is not None
    assert location.detail == str(two)


def test_section_in_either_case(tmp_path: Path):
    file = write(tmp_path / "one", "[agent]\nhost = a\n[AGENT]\nx = 1\n")
    written = read(file)
    assert written.find("AGENT", HOST).text == "a"
    assert list(written.names("AGENT")) == [
        (str(file), "host"),
        (str(file), "x"),
    ]


def test_default_where_nothing_is_written():
    origin = read().find("DEFAULT", HOST)
    assert origin.place == "default: [DEFAULT] host"
    assert origin.text == "localhost"


def test_error_shows_the_value_on_one_line_and_not_all_of_it(tmp_path: Path):
    text = "[DEFAULT]\nhost = a\n b\n " + "c" * 1000
    written = read(write(tmp_path / "one", text))
    message = str(written.error("DEFAULT", HOST, "bad"))
    assert message.startswith(f'{tmp_path}/one: [DEFAULT] host = "a\\nb\\nc')
    assert message.endswith('...": bad')
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(
            b"secret s3cr3t", "line 1: No ':' or '='", id="no equals sign"
        ),
        pytest.param(
            b"\xef\xbb\xbf[DEFAULT]",
            "line 1: begins with a byte order",
            id="of Notepad",
        ),
        pytest.param(
            b"[DEFAULT]\n= s3cr3t", "line 2: Key cannot be", id="no name"
        ),
        pytest.param(
            b"s3cr3t = 1", "line 1: Section must be", id="no section"
        ),
        pytest.param(
            b"[s3cr3t\n", "line 1: Invalid section", id="open section"
        ),
        pytest.param(
            b" s3cr3t\n", "line 1: Unexpected cont", id="nothing to continue"
        ),
        pytest.param(b"\xffs3cr3t", "is not UTF-8 text", id="no text"),
    ],
)
def test_file_that_cannot_be_parsed(tmp_path: Path, content, reason):
    file = tmp_path / "one.ini"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read(file)
    message = str(error.value)
    assert message.startswith(f"{file}: {reason}")
    assert "s3cr3t" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("nowhere", "No such file or directory", id="missing"),
        pytest.param(".", "Is a directory", id="folder"),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, name, reason):
    file = tmp_path / name
    with pytest.raises(ConfigError) as error:
        read(file)
    assert str(error.value) == f"{file}: cannot be read: {reason}"


@pytest.mark.parametrize("long", ["", "a" * 70])
def test_a_refusal_quotes_no_password(tmp_path: Path, long):
    """Cut off, it could not be recognised any more."""
    text = f"[DEFAULT]\nhost = {long} tcp://me:s3cr3t@h:1\n"
    found = read(write(tmp_path / "one", text))
    error = found.error("DEFAULT", HOST, "tcp://me:s3cr3t@h:1 is bad")
    assert "s3cr3t" not in str(error)
    assert "tcp://***@h" in str(error)
