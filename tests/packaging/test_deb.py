"""The DEBs: what is in them, and what their maintainer scripts do.

Under a systemd that runs, with instances that ask meanwhile: `make boot`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT
from .package_hosts import DebHost, said

AGENT = "ovn-metadata-agent"
FLEET = "ovn-metadata-fleet"
COMPAT = "neutron-ovn-metadata-agent-compat"
CONFIG = "/etc/ovn-metadata-agent/agent.conf"
COMPLETIONS = "usr/share/bash-completion/completions"
ARGUMENTS = "/usr/libexec/ovn-metadata-fleet/agent-arguments"
OWN = f"--config-file {CONFIG}"
NEUTRONS = (
    "--config-file /etc/neutron/neutron.conf "
    "--config-file /etc/neutron/neutron_ovn_metadata_agent.ini"
)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Provide a folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="deb") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def source(released: Path, scratch: Path) -> Path:
    """Provide the source distribution, where every user can read it."""
    (archive,) = released.glob("*.tar.gz")
    return Path(shutil.copy(archive, scratch))


def build(
    source: Path, out: Path, *, as_other: bool = False
) -> dict[str, Path]:
    """Build SOURCE into OUT, here or AS_OTHER; return files by package."""
    environment = {**os.environ}
    command = (ROOT / "packaging/debian/build", source, out)
    out.mkdir()
    if as_other:
        environment |= {"TZ": "Asia/Tokyo", "LANG": "C", "HOME": "/"}
        script = out.parent / "build"
        script.write_bytes(command[0].read_bytes())
        words = shlex.join(map(str, ("sh", script, *command[1:])))
        command = ("sh", "-c", f"umask 077; {words}")
        if os.geteuid() == 0:
            out.chmod(0o777)
            other = ("--reuid=nobody", "--regid=nogroup", "--clear-groups")
            command = ("setpriv", *other, *command)
    said(*command, env=environment, cwd="/")
    return {file.name.partition("_")[0]: file for file in out.glob("*.deb")}


@pytest.fixture(scope="module")
def debs(source: Path, scratch: Path) -> dict[str, Path]:
    """Provide the packages."""
    return build(source, scratch / "first")


@pytest.fixture(scope="module")
def tree(debs: dict[str, Path], scratch: Path) -> Path:
    """Provide a folder with all of them unpacked."""
    folder = scratch / "tree"
    for file in debs.values():
        said("dpkg-deb", "--extract", file, folder)
    return folder


@pytest.fixture
def host(overlay: None, tmp_path: Path) -> Iterator[DebHost]:
    """Provide a Debian with nothing of ours."""
    with DebHost(tmp_path) as host:
        yield host


def contents(file: Path) -> dict[str, str]:
    """Return the modes of the files and links in FILE, by path."""
    lines = said("dpkg-deb", "--contents", file).splitlines()
    words = [line.split(maxsplit=5) for line in lines]
    return {
        word[5].partition(" -> ")[0].removeprefix("."): word[0]
        for word in words
        if not word[0].startswith("d")
    }


def test_three_packages(debs):
    assert {*debs} == {AGENT, FLEET, COMPAT}


def test_bill_of_materials_is_in_the_package(tree):
    pattern = "dist-packages/*.dist-info/sboms/ovn-metadata-agent.cdx.json"
    assert len([*tree.joinpath("usr/lib/python3").glob(pattern)]) == 1


def test_another_builder_makes_the_same_bytes(debs, source, scratch):
    again = build(source, scratch / "again", as_other=True)
    for name, file in debs.items():
        assert again[name].name == file.name
        assert again[name].read_bytes() == file.read_bytes(), name


def test_lintian_finds_no_fault(debs):
    # Its exit code counts what is overridden, too.
    options = ("--allow-root", "--fail-on=none")
    assert said("lintian", "-EIL", "+pedantic", *options, *debs.values()) == ""


def test_no_file_is_in_two_packages(debs):
    files = [name for file in debs.values() for name in contents(file)]
    assert len(files) == len({*files})


@pytest.mark.parametrize(
    ("package", "path", "mode"),
    [
        (FLEET, CONFIG, "-rw-r-----"),
        (FLEET, f"{CONFIG}.sample", "-rw-r--r--"),
        (FLEET, "/etc/ovn-metadata-agent/privileged.conf", "-rw-r--r--"),
        (FLEET, "/etc/default/ovn-metadata-agent", "-rw-r--r--"),
        (FLEET, "/etc/logrotate.d/ovn-metadata-agent", "-rw-r--r--"),
        (AGENT, "/etc/sudoers.d/ovn-metadata-agent", "-r--r-----"),
        (AGENT, "/etc/ovn-metadata-agent/rootwrap.conf", "-rw-r--r--"),
        (
            AGENT,
            "/etc/ovn-metadata-agent/rootwrap.d/metadata.filters",
            "-rw-r--r--",
        ),
    ],
)
def test_configuration(debs, package, path, mode):
    assert contents(debs[package])[path] == mode
    conffiles = said("dpkg-deb", "--info", debs[package], "conffiles")
    assert path in conffiles.splitlines()


def test_each_unit_of_ours_is_installed(debs):
    units = {
        Path(name).name
        for file in (debs[AGENT], debs[FLEET])
        for name in contents(file)
        if name.startswith("/lib/systemd/system/")
    }
    assert units == {path.name for path in (ROOT / "etc/systemd").iterdir()}


def test_documents_are_there_to_read(debs):
    """Not compressed: they link to each other by name."""
    found = contents(debs[AGENT])
    for file in (ROOT / "docs").rglob("*.*"):
        name = f"/usr/share/doc/{AGENT}/{file.relative_to(ROOT)}"
        assert name in found


def test_the_fleet_does_without_the_agents_package(debs):
    """A later restart of its service has all that it loads."""
    assert not [name for name in contents(debs[AGENT]) if "python" in name]
    fields = said("dpkg-deb", "--field", debs[FLEET], "Depends")
    assert AGENT not in fields


def test_sos_finds_the_plugin(debs):
    folder = "/usr/lib/python3/dist-packages/sos/report/plugins"
    name = f"{folder}/ovn_metadata_agent.py"
    assert contents(debs[FLEET])[name] == "-rw-r--r--"


def test_dependencies_are_those_of_setup(debs):
    """Of each of Python's, the package that Debian 12 has it in."""
    setup = (ROOT / "setup.py").read_text()
    named = re.findall(r'^    "([a-z.0-9-]+)>=', setup, re.M)
    wanted = {
        "supervisor" if name == "supervisor" else f"python3-{name}"
        for name in named
    }
    assert len(wanted) == 10
    fields = said("dpkg-deb", "--field", debs[FLEET], "Depends")
    assert wanted <= {*re.split(r"[ ,\n]+", fields)}


@pytest.mark.parametrize("field", ["Conflicts", "Replaces", "Provides"])
def test_compat_takes_the_place_of_neutrons(debs, field):
    found = said("dpkg-deb", "--field", debs[COMPAT], field)
    assert {*re.split(r"[,\s]+", found.strip())} == {
        "neutron-ovn-metadata-agent",
        "networking-ovn-metadata-agent",
    }


def test_what_is_recommended(debs):
    """Not sudo: systemd starts the privileged daemon."""
    assert said("dpkg-deb", "--field", debs[AGENT], "Recommends") == (
        "ovn-host\n"
    )
    assert "sudo" in said("dpkg-deb", "--field", debs[AGENT], "Suggests")


def test_sudo_takes_its_rule(tree):
    said("/usr/sbin/visudo", "-cf", tree / "etc/sudoers.d/ovn-metadata-agent")


@pytest.mark.parametrize("command", [AGENT, FLEET, "agent-status"])
def test_a_command_and_its_manual(tree, command):
    assert os.access(tree / "usr/bin" / command, os.X_OK)
    (page,) = (tree / "usr/share/man").glob(f"man*/{command}.*.gz")
    text = said("man", "--local-file", page, env={**os.environ, "LANG": "C"})
    assert command in text


def complete(tree: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of WORDS."""
    line = shlex.join(words)
    script = f"""
        . /usr/share/bash-completion/bash_completion
        _completion_loader {words[0]}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
        function=$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {words[0]} {shlex.quote(words[-1])} {words[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {
        "BASH_COMPLETION_USER_DIR": str(tree / COMPLETIONS).removesuffix(
            "/completions"
        ),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    return {*said("bash", "-c", script, env=environment).split()}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ((AGENT, "--che"), {"--check"}),
        ((AGENT, "--config-"), {"--config-dir", "--config-file"}),
        ((FLEET, "--c"), {"--check", "--config-file"}),
        (("agent-status", "--js"), {"--json"}),
        (("agent-status", "du"), {"dump"}),
        (("agent-status", "--json", "wh"), {"why"}),
        (("agent-status", "dump", "/etc/debi"), set()),
        (("agent-status", "dump", "/etc/cron.dai"), {"/etc/cron.daily"}),
        (("ovn-metadata-cleanup", "--dry"), {"--dry-run"}),
        (("ovn-metadata-cleanup", "--config-f"), {"--config-file"}),
        ((AGENT, "--config-file", "/etc/host.co"), {"/etc/host.conf"}),
    ],
)
def test_bash_completes(tree, words, offered):
    assert complete(tree, *words) == offered


def test_bash_knows_the_other_names(tree):
    for name in (
        "neutron-ovn-metadata-agent",
        "networking-ovn-metadata-agent",
    ):
        link = tree / COMPLETIONS / name
        assert link.resolve() == tree / COMPLETIONS / FLEET


def test_installed_where_ovn_is_not(host, debs):
    """It says what is missing, and is installed."""
    said = host.install(debs[FLEET], debs[AGENT])
    assert "missing: Open vSwitch at tcp:127.0.0.1:6640" in said
    assert "it waits for what is missing (above)" in said
    status = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ")
    assert host.run(*status, AGENT, FLEET) == "installed installed "
    assert host.run("stat", "--format=%a %U:%G", CONFIG) == (
        "640 root:ovn-metadata\n"
    )
    for folder in ("lib/neutron", "log/ovn-metadata-agent"):
        owner = host.run("stat", "--format=%U:%G", f"/var/{folder}")
        assert owner == "ovn-metadata:ovn-metadata\n"
    said = host.run("logrotate", "--debug", f"/etc/logrotate.d/{AGENT}")
    assert "error" not in said
    assert "/var/log/ovn-metadata-agent/" in said
    for unit in (f"{AGENT}.service", f"{FLEET}.service"):
        assert host.run("systemctl", "is-enabled", unit) == "enabled\n"
    socket = "ovn-metadata-privsep.socket"
    assert host.run("systemctl", "is-enabled", socket) == "enabled\n"


def test_upgrade_with_a_broken_file(host, debs):
    """It ends well, says what to mend, and how to go on."""
    host.install(debs[FLEET], debs[AGENT])
    host.shell(f"printf '[DEFAULT]\nnova_metadata_port=none\n' >{CONFIG}")
    said = host.install(debs[FLEET], debs[AGENT])
    assert f'{CONFIG}: [DEFAULT] nova_metadata_port = "none"' in said
    assert "NOT restarted, because the configuration is refused" in said
    assert f"ovn-metadata-agent --check {OWN}" in said
    assert host.run("stat", "--format=%a %U:%G", CONFIG) == (
        "640 root:ovn-metadata\n"
    )
    assert "port=none" in host.run("cat", CONFIG)


def test_the_fleet_tells_whether_it_would_start(host, debs):
    """Its postinst script asks before it has an old one restarted."""
    host.install(debs[FLEET])
    settings = "/etc/ovn-metadata-agent/privileged.conf"
    host.run(FLEET, "--check")
    host.shell(f"printf '[fleet]\nuser = noone\n' >{settings}")
    assert "no user noone" in host.run(FLEET, "--check", code=1)
    host.shell(f"chmod o+w {settings}")
    assert "not only root can write it" in host.run(FLEET, "--check", code=1)
    host.run("test", "!", "-e", "/run/ovn-metadata-fleet")


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        pytest.param("", OWN, id="none of the operator's"),
        pytest.param(f'"{NEUTRONS}"', NEUTRONS, id="in double quotes"),
        pytest.param(f"'{NEUTRONS}'", NEUTRONS, id="in single quotes"),
        pytest.param(NEUTRONS, NEUTRONS, id="as the unit's comment has it"),
        pytest.param(f' "{NEUTRONS}" \t', NEUTRONS, id="blanks at the ends"),
        pytest.param(
            '"' + NEUTRONS.replace(" --", " \\\n--") + '"',
            NEUTRONS,
            id="continued",
        ),
    ],
)
def test_the_files_that_the_scripts_have_checked(host, debs, line, arguments):
    host.dpkg("--unpack", debs[FLEET], debs[AGENT])
    if line:
        text = shlex.quote(f"OVN_METADATA_AGENT_ARGS={line}\n")
        file = "/etc/default/ovn-metadata-agent.dpkg-new"
        host.shell(f"printf %s {text} >>{file}")
    host.shell(
        "cd /etc/default; mv ovn-metadata-agent.dpkg-new ovn-metadata-agent"
    )
    assert host.run(ARGUMENTS) == f"{arguments}\n"


@pytest.mark.parametrize(
    ("drop_in", "arguments"),
    [
        pytest.param(
            'Environment=FOO=1 "OVN_METADATA_AGENT_ARGS=--config-file /x" B=2',
            "--config-file /x",
            id="among others",
        ),
        pytest.param(
            "Environment = A=1 \\\n"
            "  # words\n"
            " 'OVN_METADATA_AGENT_ARGS=--config-file /x' \n",
            "--config-file /x",
            id="continued, with a comment",
        ),
        pytest.param(
            "EnvironmentFile=-/etc/more",
            "--config-file /more",
            id="another file",
        ),
        pytest.param(
            "EnvironmentFile=\nEnvironment=", "", id="all taken back"
        ),
        pytest.param(
            '#Environment="OVN_METADATA_AGENT_ARGS=--config-file /x"',
            OWN,
            id="a comment",
        ),
    ],
)
def test_the_files_that_a_drop_in_names(host, debs, drop_in, arguments):
    host.install(debs[FLEET])
    host.dpkg("--unpack", debs[AGENT])
    folder = "/etc/systemd/system/ovn-metadata-agent.service.d"
    text = shlex.quote(f"[Service]\n{drop_in}\n")
    host.shell(
        f"mkdir -p {folder}; printf %s {text} >{folder}/x.conf;"
        "echo OVN_METADATA_AGENT_ARGS=--config-file /more >/etc/more"
    )
    assert host.run(ARGUMENTS) == f"{arguments}\n"


def test_all_removed_after_compat(host, debs):
    """What takes all off the host reads what the agent has read."""
    host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    host.dpkg("--remove", COMPAT)
    host.dpkg("--remove", AGENT)
    assert host.run(ARGUMENTS) == f"{NEUTRONS}\n"
    look = ("stat", "--format=%a %U:%G", "/var/lib/ovn-metadata-fleet")
    assert host.run(*look) == "755 root:root\n"


def test_purging_the_agent_leaves_the_fleet(host, debs):
    host.install(debs[FLEET], debs[AGENT])
    host.dpkg("--remove", AGENT)
    said = host.dpkg("--purge", AGENT)
    assert "inspected or removed" not in said
    assert "cleanup" not in said
    assert "inspected or removed" in host.dpkg("--remove", FLEET)


def test_what_fails_keeps_no_package_from_being_installed(host, debs):
    """It is told, with what to do."""
    host.install(debs[FLEET], debs[AGENT])
    host.shell("getent group neutron || groupadd neutron")
    for command in ("/usr/sbin/usermod", "/usr/bin/deb-systemd-invoke"):
        host.run("ln", "-sf", "/bin/false", command)
    host.run("rm", "/usr/bin/setpriv")
    said = host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    assert "the restart failed" in said
    assert "ended with exit code 127" in said
    assert "ovn-metadata is not in the group neutron" in said


def test_by_neutrons_names(host, debs):
    """The command that neutron-common has is moved, and back."""
    command = "/usr/bin/neutron-ovn-metadata-agent"
    host.shell(
        f"echo Neutron >{command}; getent group neutron || groupadd neutron"
    )
    names = [f"{name}-{AGENT}" for name in ("neutron", "networking")]
    for name in names:
        # As Neutron's package does when it is removed.
        mask = ("deb-systemd-helper", "mask", f"{name}.service")
        host.run("env", f"DPKG_MAINTSCRIPT_PACKAGE={name}", *mask)
    host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    assert host.run(ARGUMENTS) == f"{NEUTRONS}\n"
    assert "neutron" in host.run("id", "-nG", "ovn-metadata").split()
    for name in names:
        there = host.run("readlink", "-f", f"/usr/bin/{name}")
        assert there == "/usr/bin/ovn-metadata-agent\n"
    # The alias is the agent's unit, with the command of the same name.
    verify = ("systemd-analyze", "verify", "--man=no")
    for name in names:
        host.run("test", "!", "-e", f"/etc/systemd/system/{name}.service")
        said = host.run(*verify, f"{name}.service")
        assert "ovn-metadata" not in said
    host.dpkg("--remove", COMPAT)
    assert host.run("cat", command) == "Neutron\n"
    assert host.run(ARGUMENTS) == f"{OWN}\n"


def test_compat_wins_over_what_neutrons_package_left(host, debs):
    """A mask that is an operator's, and a link that enabled its unit."""
    folder = "/etc/systemd/system"
    wants = f"{folder}/multi-user.target.wants"
    unit = f"neutron-{AGENT}.service"
    host.install(debs[FLEET], debs[AGENT])
    host.run("systemctl", "disable", f"{AGENT}.service")
    host.run("ln", "-s", f"/lib/systemd/system/{unit}", wants)
    host.run("ln", "-s", "/dev/null", f"{folder}/{unit}")
    host.install(debs[COMPAT])
    host.run("test", "!", "-L", f"{folder}/{unit}")
    host.run("test", "!", "-L", f"{wants}/{unit}")
    # By that name it can be enabled, and stays so.
    host.run("systemctl", "enable", unit)
    host.run("ln", "-s", "/dev/null", f"{folder}/{unit}")
    assert f"systemctl unmask {unit}" in host.install(debs[COMPAT])
    host.run("test", "-L", f"{folder}/{unit}")
    host.run("test", "-L", f"{wants}/{AGENT}.service")


@pytest.mark.parametrize(
    ("unit", "target", "stays"),
    [
        ("", "/lib/systemd/system", False),
        ("", "/usr/lib/systemd/system", False),
        ("", "/srv", True),
        ("a file", "/lib/systemd/system", True),
        ("a link to one", "/lib/systemd/system", True),
    ],
)
def test_compat_leaves_an_operators_unit_enabled(
    host, debs, unit, target, stays
):
    name = f"neutron-{AGENT}.service"
    mine = f"/etc/systemd/system/{name}"
    link = f"/etc/systemd/system/multi-user.target.wants/{name}"
    host.install(debs[FLEET], debs[AGENT])
    if unit == "a file":
        host.run("touch", mine)
    elif unit:
        host.shell(f"mkdir -p /srv; touch /srv/{name}")
        host.run("ln", "-s", f"/srv/{name}", mine)
    host.run("ln", "-s", f"{target}/{name}", link)
    host.install(debs[COMPAT])
    host.run("test", *([] if stays else ["!"]), "-L", link)


@pytest.mark.parametrize("line", ["", "a line"], ids=["empty", "with a line"])
def test_compat_gives_the_log_back(host, debs, line):
    log = f"/var/log/neutron/neutron-{AGENT}.log"
    host.shell(
        "id neutron 2>&- || useradd --system --user-group neutron;"
        "mkdir -p /var/log/neutron; chown neutron:adm /var/log/neutron"
    )
    host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    owner = ("stat", "--format=%U:%G", log)
    assert host.run(*owner).startswith("ovn-metadata:")
    host.shell(f"printf '{line}' >{log}")
    host.dpkg("--purge", COMPAT)
    if line:
        assert host.run(*owner) == "neutron:adm\n"
    else:
        host.run("test", "!", "-e", log)


def test_compat_writes_where_neutron_does(host, debs):
    """Also after Neutron's packages have set the folders' modes again."""
    own = "setpriv --reuid ovn-metadata --regid ovn-metadata --init-groups"
    log = f"/var/log/neutron/neutron-{AGENT}.log"
    modes = "chmod 0755 /var/lib/neutron; chmod 0750 /var/log/neutron"
    host.shell(
        "id neutron 2>&- || useradd --system --user-group neutron;"
        "mkdir -p /var/lib/neutron /var/log/neutron /etc/neutron;"
        "chown neutron: /var/lib/neutron; chown neutron:adm /var/log/neutron;"
        f"{modes}; touch {log}; cd /etc/neutron;"
        "echo '[DEFAULT]\nlog_dir = /var/log/neutron' >neutron.conf;"
        "touch neutron_ovn_metadata_agent.ini"
    )
    check = f"{own} neutron-{AGENT} --check {NEUTRONS}"
    host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    assert "the configuration is good" in host.shell(check, code=2)
    host.shell(modes)
    assert "can't write to /var/lib/neutron" in host.shell(check, code=1)
    drop_in = "/lib/systemd/system/ovn-metadata-agent.service.d/neutron.conf"
    host.shell(f"$(sed -n 's/^ExecStartPre=-+//p' {drop_in})")
    assert "the configuration is good" in host.shell(check, code=2)
    host.shell(f"{own} touch /var/lib/neutron/x; {own} test -w {log}")
    # No group may write it, or logrotate would skip it.
    host.shell(
        "printf '%s {\nrotate 1\ncopytruncate\n}' '/var/log/neutron/*.log'"
        f" >/rotate; echo x >>{log}; logrotate --force /rotate;"
        f"test -e {log}.1"
    )
    # One that is missing.
    host.run("rm", log)
    host.install(debs[COMPAT])
    assert "the configuration is good" in host.shell(check, code=2)


def test_purged(host, debs):
    """Nothing is left but the users."""
    ours = re.compile(r"ovn.metadata|/var/lib/neutron")
    host.install(debs[FLEET], debs[AGENT], debs[COMPAT])
    assert len([*filter(ours.search, host.written())]) > 100
    host.shell("touch /var/log/ovn-metadata-agent/x.log")
    host.dpkg("--remove", COMPAT, AGENT)
    host.run("systemctl", "is-enabled", f"{FLEET}.service")
    host.run("test", "-s", CONFIG)
    host.dpkg("--purge", COMPAT, AGENT, FLEET)
    assert [*filter(ours.search, host.written())] == []
    host.run("getent", "passwd", "ovn-metadata", "ovn-metadata-fleet")
