from __future__ import annotations

from pathlib import Path

import pytest

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.settings import Settings
from ovn_metadata.agent.errors import ConfigError

SECRET = "[DEFAULT]\nmetadata_proxy_shared_secret = s3cr3t\n"


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    file = tmp_path / "x.pem"
    file.write_text("")
    return file


@pytest.fixture
def load(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "x.ini"

    def load_text(text: str) -> Settings:
        file.write_text(text)
        argv = ["--config-dir", str(empty), "--config-file", str(file)]
        return options.load(argv, "ovn-metadata-agent")[1]

    return load_text


@pytest.mark.parametrize(
    ("section", "present", "missing"),
    [
        ("DEFAULT", "nova_client_cert", "nova_client_priv_key"),
        ("DEFAULT", "nova_client_priv_key", "nova_client_cert"),
        ("ovn", "ovn_sb_certificate", "ovn_sb_private_key"),
        ("ovn", "ovn_sb_private_key", "ovn_sb_certificate"),
    ],
)
def test_half_a_pair_is_refused(load, tmp_path, section, present, missing):
    with pytest.raises(ConfigError) as caught:
        load(f"[{section}]\n{present} = /a.pem\n")
    assert str(caught.value) == (
        f'{tmp_path}/x.ini: [{section}] {present} = "/a.pem": '
        f"needs [{section}] {missing} beside it"
    )


@pytest.mark.parametrize("name", ["auth_ca_cert", "nova_client_cert"])
def test_certificate_that_is_used_must_be_there(load, tmp_path, pem, name):
    text = (
        f"[DEFAULT]\nnova_metadata_protocol = https\n"
        f"nova_client_cert = {pem}\nnova_client_priv_key = {pem}\n"
        f"{name} = {tmp_path}/no.pem\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == (
        f'{tmp_path}/x.ini: [DEFAULT] {name} = "{tmp_path}/no.pem": '
        f"cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[DEFAULT]\nauth_ca_cert = /no.pem\n", id="http"),
        pytest.param(
            "[DEFAULT]\nauth_ca_cert = /no.pem\n"
            "nova_metadata_protocol = https\nnova_metadata_insecure = 1\n",
            id="https without a look",
        ),
        pytest.param("[ovn]\novn_sb_ca_cert = /no.pem\n", id="tcp"),
    ],
)
def test_certificate_that_is_not_used_need_not_be_there(load, text):
    load(text)


def test_certificates_of_the_southbound_database(load, tmp_path, pem):
    text = (
        f"[ovn]\novn_sb_connection = tcp:a:1,ssl:b:1\n"
        f"ovn_sb_private_key = {pem}\novn_sb_certificate = {pem}\n"
    )
    southbound = load(f"{text}ovn_sb_ca_cert = {pem}\n").southbound
    assert southbound.private_key == pem
    assert southbound.certificate == pem
    assert southbound.ca_cert == pem
    with pytest.raises(ConfigError, match=r"\[ovn\] ovn_sb_ca_cert = .*read"):
        load(f"{text}ovn_sb_ca_cert = {tmp_path}/no.pem\n")


@pytest.mark.parametrize(
    "connection",
    [
        "[ovn]\novn_sb_connection = tcp:a:1,ssl:b:1\n",
        "[ovs]\novsdb_connection = ssl:a:1\n",
    ],
)
def test_ssl_needs_all_three(load, pem, connection):
    """The OVSDB library raises TypeError without one of them."""
    names = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
    lines = {name: f"{name} = {pem}" for name in names}
    section = "\n".join(lines.values())
    assert set(load(f"{connection}[ovn]\n{section}\n").files_in_use()) == {pem}
    some = lines["ovn_sb_private_key"] + "\n" + lines["ovn_sb_certificate"]
    with pytest.raises(ConfigError, match=r"needs .* ovn_sb_ca_cert for ssl"):
        load(f"{connection}[ovn]\n{some}\n")


def test_files_that_are_not_used_are_no_matter(load, pem):
    """Whoever may read them: the database is reached by tcp."""
    lines = f"ovn_sb_private_key = {pem}\novn_sb_certificate = {pem}\n"
    nova = "[DEFAULT]\nauth_ca_cert = /nowhere\n"
    assert load(f"{nova}[ovn]\n{lines}").files_in_use() == ()


def test_https_to_nova(load, pem):
    nova = load(
        f"[DEFAULT]\nnova_metadata_protocol = https\nauth_ca_cert = {pem}\n"
        f"nova_client_cert = {pem}\nnova_client_priv_key = {pem}\n"
    ).nova
    assert nova.protocol == "https"
    assert (nova.ca_cert, nova.client_cert, nova.client_key) == (pem, pem, pem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", (), id="nothing to say"),
        pytest.param("[x]\ny = 1\n", (), id="unknown elsewhere"),
        pytest.param(
            "metadata_proxy_shared_secret =\n",
            ("metadata_proxy_shared_secret is empty",),
            id="no secret",
        ),
        pytest.param(
            "nova_metadata_protocol = https\nnova_metadata_insecure = true\n",
            ("nova_metadata_insecure is true",),
            id="certificate not looked at",
        ),
        pytest.param(
            "metadata_workers = 96\n",
            ("metadata_workers = 96: the gateway gets 64",),
            id="more threads than haproxy has",
        ),
        pytest.param(
            "[ovn_metadata_agent]\nresync_intervall = 5\n",
            ("x.ini: [ovn_metadata_agent] resync_intervall is no option",),
            id="misspelt option of ours",
        ),
    ],
)
def test_warnings(load, text, expected):
    warnings = load(SECRET + text).warnings
    assert len(warnings) == len(expected)
    for warning, part in zip(warnings, expected, strict=True):
        assert part in warning
        assert warning.isprintable()
        assert "s3cr3t" not in warning
