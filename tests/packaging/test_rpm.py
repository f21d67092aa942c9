"""The RPMs: what is in them, and what they do to a host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import NEXT, ROOT
from .package_hosts import RpmHost

AGENT = "ovn-metadata-agent"
FLEET = "ovn-metadata-fleet"
COMPAT = "neutron-ovn-metadata-agent-compat"
UNITS = "/usr/lib/systemd/system"
ETC = "/etc/ovn-metadata-agent"
SITE = "/usr/lib/python3.11/site-packages"
COMPLETIONS = "/usr/share/bash-completion/completions"
SCRIPTLETS = ("PREIN", "POSTIN", "PREUN", "POSTUN")

ROOTS_FILE = "100644 root root"
PROGRAM = "100755 root root"
FOLDER = "40755 root root"
LINK = "120777 root root"
# Flags: c is configuration, n one that an upgrade leaves alone, g made later.
FILES = {
    AGENT: {
        f"{ETC}/rootwrap.conf": f"{ROOTS_FILE} cn",
        f"{ETC}/rootwrap.d": FOLDER,
        f"{ETC}/rootwrap.d/metadata.filters": f"{ROOTS_FILE} cn",
        "/etc/sudoers.d": "40750 root root",
        "/etc/sudoers.d/ovn-metadata-agent": "100440 root root cn",
        "/usr/bin/agent-status": PROGRAM,
        "/usr/bin/ovn-metadata-agent": PROGRAM,
        "/usr/bin/ovn-metadata-privsep": PROGRAM,
        "/usr/bin/ovn-metadata-rootwrap": PROGRAM,
        f"{COMPLETIONS}/agent-status": LINK,
        f"{COMPLETIONS}/ovn-metadata-agent": LINK,
        "/usr/libexec/ovn-metadata-agent": FOLDER,
        "/usr/libexec/ovn-metadata-agent/would-start": PROGRAM,
        f"{UNITS}/ovn-metadata-agent.service": ROOTS_FILE,
        f"{UNITS}/ovn-metadata-privsep.socket": ROOTS_FILE,
        f"{UNITS}/ovn-metadata-privsep@.service": ROOTS_FILE,
    },
    FLEET: {
        "/etc/sysconfig/ovn-metadata-agent": f"{ROOTS_FILE} cn",
        "/etc/logrotate.d/ovn-metadata-agent": f"{ROOTS_FILE} cn",
        ETC: FOLDER,
        f"{ETC}/agent.conf": "100640 root ovn-metadata cn",
        f"{ETC}/agent.conf.sample": ROOTS_FILE,
        f"{ETC}/privileged.conf": f"{ROOTS_FILE} cn",
        "/usr/bin/ovn-metadata-cleanup": PROGRAM,
        "/usr/bin/ovn-metadata-fleet": PROGRAM,
        "/usr/libexec/ovn-metadata-fleet": FOLDER,
        "/usr/libexec/ovn-metadata-fleet/agent-arguments": PROGRAM,
        "/usr/libexec/ovn-metadata-fleet/take-off-host": PROGRAM,
        f"{UNITS}/ovn-metadata-fleet.service": ROOTS_FILE,
        "/usr/lib/sysusers.d/ovn-metadata-agent.conf": ROOTS_FILE,
        "/usr/lib/tmpfiles.d/ovn-metadata-agent.conf": ROOTS_FILE,
        "/var/lib/ovn-metadata-fleet": FOLDER,
        "/var/lib/ovn-metadata-fleet/arguments": f"{ROOTS_FILE} g",
        "/var/log/ovn-metadata-agent": "40750 ovn-metadata ovn-metadata",
        f"{COMPLETIONS}/ovn-metadata-cleanup": LINK,
        f"{COMPLETIONS}/ovn-metadata-fleet": ROOTS_FILE,
    },
    COMPAT: {
        "/usr/bin/networking-ovn-metadata-agent": LINK,
        "/usr/bin/neutron-ovn-metadata-agent": LINK,
        f"{UNITS}/networking-ovn-metadata-agent.service": LINK,
        f"{UNITS}/neutron-ovn-metadata-agent.service": LINK,
        f"{UNITS}/ovn-metadata-agent.service.d": FOLDER,
        f"{UNITS}/ovn-metadata-agent.service.d/neutron.conf": ROOTS_FILE,
        f"/usr/lib/tmpfiles.d/{COMPAT}.conf": ROOTS_FILE,
        "/etc/neutron/conf.d/neutron-ovn-metadata-agent": FOLDER,
        f"{COMPLETIONS}/networking-ovn-metadata-agent": LINK,
        f"{COMPLETIONS}/neutron-ovn-metadata-agent": LINK,
    },
}
# Python's, and documents: by other tests, and by rpmlint.
ELSEWHERE = (
    SITE,
    "/usr/share/man/",
    "/usr/share/doc/",
    "/usr/share/licenses/",
)


def rpm(*words: str | Path) -> str:
    return subprocess.run(
        ("rpm", *words), check=True, capture_output=True, text=True
    ).stdout


def package(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name}-[0-9]*.noarch.rpm")
    return found


def list_files(folder: Path, name: str) -> dict[str, str]:
    form = (
        "[%{FILENAMES}\t%{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME}"
        " %{FILEFLAGS:fflags}\n]"
    )
    lines = rpm("-qp", "--qf", form, package(folder, name)).splitlines()
    return {
        path: facts.strip() for path, facts in (s.split("\t") for s in lines)
    }


@pytest.mark.parametrize("name", FILES)
def test_files_have_their_owners_modes_and_flags(released: Path, name: str):
    found = list_files(released, name)
    assert {
        path: facts
        for path, facts in found.items()
        if not path.startswith(ELSEWHERE)
    } == FILES[name]


def test_every_module_is_there_and_compiled(released: Path):
    modules = {
        f"{SITE}/ovn_metadata/{path.relative_to(ROOT)}"
        for folder in ("agent", "privsep")
        for path in (ROOT / folder).rglob("*.py")
    }
    found = list_files(released, FLEET)
    plugin = f"{SITE}/sos/report/plugins/ovn_metadata_agent.py"
    assert {p for p in found if p.endswith(".py")} == {*modules, plugin}
    for module in modules:
        folder, _, name = module.rpartition("/")
        compiled = f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc"
        assert compiled in found
    assert not [path for path in found if path.endswith("/RECORD")]


def test_documents_are_there_to_read(released: Path):
    documents = {
        str(file.relative_to(ROOT / "docs"))
        for file in (ROOT / "docs").rglob("*.*")
    }
    # The folder's name is the building distribution's.
    found = {
        path.partition("/docs/")[2] for path in list_files(released, AGENT)
    }
    assert documents <= found


def test_packages_need_what_they_need(released: Path):
    needs = {
        name: rpm("-qp", "--requires", package(released, name)).splitlines()
        for name in FILES
    }
    (version,) = {
        rpm("-qp", "--qf", "%{EVR}", package(released, name)) for name in FILES
    }
    assert f"{FLEET} = {version}" in needs[AGENT]
    assert f"{AGENT} = {version}" in needs[COMPAT]
    assert not [need for need in needs[FLEET] if AGENT in need]
    assert {"haproxy >= 2.6", "util-linux"} <= {*needs[FLEET]}
    assert {"coreutils", "util-linux"} <= {*needs[AGENT]}
    libraries = re.findall(
        r'"([\w.]+)>=([\d.]+)"', (ROOT / "setup.py").read_text()
    )
    assert libraries
    for library, oldest in libraries:
        shortest = re.sub(r"(\.0)+$", "", oldest)
        assert f"python3.11dist({library}) >= {shortest}" in needs[FLEET]
    conflicts = rpm("-qp", "--conflicts", package(released, COMPAT))
    assert "openstack-neutron-ovn-metadata-agent\n" in conflicts


def test_changelog_and_version_are_ours(released: Path):
    said = rpm("-qp", "--changelog", package(released, AGENT))
    assert "One unprivileged haproxy for each network" in said
    (sources,) = released.glob("*.src.rpm")
    (archive,) = released.glob("*.tar.gz")
    assert archive.name in rpm("-qpl", sources).split()


def test_nothing_tells_of_the_builder(released: Path):
    for file in released.glob("*.rpm"):
        form = "%{BUILDHOST} %{BUILDTIME} [%{FILEMTIMES} ]"
        host, made, *times = rpm("-qp", "--qf", form, file).split()
        assert host == "localhost"
        assert max(map(int, times)) <= int(made)


def test_rpmlint_finds_nothing(released: Path):
    done = subprocess.run(
        (
            *("rpmlint", "-c", ROOT / "packaging/rpm/rpmlint.toml"),
            *sorted(released.glob("*.rpm")),
        ),
        capture_output=True,
        check=False,
        text=True,
    )
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_programs_have_manual_pages(released: Path, name: str):
    found = {Path(path) for path in list_files(released, name)}
    programs = {path.name for path in found if path.parent.name == "bin"}
    pages = {
        path.name[:-5] for path in found if path.parent.parent.name == "man"
    }
    assert programs - {"ovn-metadata-rootwrap"} == pages


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_scriptlets_are_shell(released: Path, shell: str):
    found = 0
    for name in FILES:
        for tag in SCRIPTLETS:
            text = rpm("-qp", "--qf", f"%{{{tag}}}", package(released, name))
            if text != "(none)":
                subprocess.run(
                    (shell, "-n"), input=text, text=True, check=True
                )
                found += 1
    assert found == 9


# ------------------------------------------------------------ on a host


@pytest.fixture
def host(
    overlay: None, tmp_path: Path, released: Path, upgrade: Path
) -> Iterator[RpmHost]:
    with RpmHost(tmp_path, released, upgrade) as host:
        yield host


@pytest.fixture
def installed(host: RpmHost, released: Path) -> RpmHost:
    host.install(*(package(released, name) for name in (AGENT, FLEET)))
    return host


def systemctl(ran: list[list[str]]) -> list[list[str]]:
    return [words[1:] for words in ran if words[0] == "systemctl"]


def test_installation(host: RpmHost, released: Path):
    both = (package(released, name) for name in (AGENT, FLEET))
    said, ran = host.rpm("-i", *both)
    assert not re.search("(?m)^warning", said)
    # There is no OVN here.
    assert "missing: Open vSwitch at tcp:127.0.0.1:6640" in said
    # Users first: files are theirs.
    owners = {
        f"{ETC}/agent.conf": "root ovn-metadata 640",
        "/etc/sudoers.d/ovn-metadata-agent": "root root 440",
        "/var/log/ovn-metadata-agent": "ovn-metadata ovn-metadata 750",
        "/var/lib/neutron": "ovn-metadata ovn-metadata 755",
    }
    found = host.run("stat", "-c", "%U %G %a", *owners)
    assert found.splitlines() == list(owners.values())
    host.run("id", "-un", "ovn-metadata-fleet")
    # The host's presets decide; Debian has none, which means yes.
    assert ["--no-reload", "preset", f"{FLEET}.service"] in systemctl(ran)
    for unit in (AGENT, FLEET):
        assert host.run("systemctl", "is-enabled", unit) == "enabled\n"
    host.run("visudo", "-cf", "/etc/sudoers.d/ovn-metadata-agent")
    said = host.run(
        *("systemd-analyze", "verify", "--man=no"),
        *(f"{UNITS}/{AGENT}.service", f"{UNITS}/{FLEET}.service"),
        f"{UNITS}/ovn-metadata-privsep.socket",
    )
    assert "ovn-metadata" not in said
    for command in (AGENT, "ovn-metadata-cleanup", "agent-status"):
        host.run(command, "--help")


def test_what_somebody_made_in_var_lib_neutron_stays(
    host: RpmHost, released: Path
):
    host.shell("mkdir -p -m 0711 /var/lib/neutron; chown 4 /var/lib/neutron")
    host.install(*(package(released, name) for name in (AGENT, FLEET)))
    found = host.run("stat", "-c", "%u %a", "/var/lib/neutron")
    assert found == "4 711\n"


def test_compat_package_takes_over_from_rdos_agent(
    installed: RpmHost, released: Path
):
    made = "/var/lib/neutron/external/pids /var/lib/neutron/ovn-metadata-proxy"
    installed.shell(
        "useradd --system --home-dir /var/lib/neutron neutron;"
        f"install -d -m 0755 -o neutron -g neutron /var/lib/neutron {made};"
        "chown -R neutron: /var/lib/neutron;"
        "install -D -m 0640 -g neutron /dev/null"
        " /etc/neutron/neutron_ovn_metadata_agent.ini"
    )
    own = "setpriv --reuid ovn-metadata --regid ovn-metadata --init-groups"
    installed.shell(f"{own} touch {made}/x", code=1)
    mask = f"/etc/systemd/system/neutron-{AGENT}.service"
    installed.run("ln", "-s", "/dev/null", mask)
    installed.install(package(released, COMPAT))
    installed.run("test", "!", "-L", mask)
    for folder in ("/var/lib/neutron", *made.split()):
        installed.shell(f"{own} touch {folder}/x")
    # As an upgrade of Neutron's packages does; and as each start does.
    installed.shell("chmod 0755 /var/lib/neutron")
    installed.shell(f"{own} touch /var/lib/neutron/y", code=1)
    installed.shell(f"chown -R ovn-metadata: {made}")
    drop_in = f"{UNITS}/{AGENT}.service.d/neutron.conf"
    line = f"$(sed -n 's/^ExecStartPre=-+//p' {drop_in})"
    assert installed.shell(line) == ""
    installed.shell(f"{own} touch /var/lib/neutron/y")
    arguments = "$(/usr/libexec/ovn-metadata-fleet/agent-arguments)"
    said = installed.shell(
        f"{own} neutron-ovn-metadata-agent --check {arguments}", code=2
    )
    assert "the configuration is good" in said
    said = installed.shell(f"echo {arguments}")
    assert "conf.d/neutron-ovn-metadata-agent" in said


def test_upgrade_restarts_and_keeps_what_was_changed(
    installed: RpmHost, upgrade: Path
):
    installed.shell(f"echo '# mine' >>{ETC}/agent.conf")
    said, ran = installed.rpm("-U", *upgraded(upgrade))
    assert "NOT restarted" not in said
    asked = systemctl(ran)
    agents = ["ovn-metadata-privsep.socket", f"{AGENT}.service"]
    assert ["try-restart", *agents] in asked
    assert ["try-restart", f"{FLEET}.service"] in asked
    assert not [words for words in asked if {"disable", "stop"} & {*words}]
    assert f"{FLEET}-{NEXT}" in installed.shell("rpm -qa")
    kept = installed.run("tail", "-n", "1", f"{ETC}/agent.conf")
    assert kept == "# mine\n"
    installed.run("systemctl", "is-enabled", AGENT)


def use_other_file(host: RpmHost, text: str) -> None:
    host.shell(
        f"printf '{text}' >/other.conf;"
        "echo 'OVN_METADATA_AGENT_ARGS=\"--config-file /other.conf\"'"
        " >>/etc/sysconfig/ovn-metadata-agent"
    )


def upgraded(folder: Path) -> list[Path]:
    return [package(folder, name) for name in (AGENT, FLEET)]


def test_upgrade_leaves_an_agent_alone_that_would_not_start(
    installed: RpmHost, upgrade: Path
):
    use_other_file(installed, "[DEFAULT]\\nnova_metadata_port = many\\n")
    said, ran = installed.rpm("-U", *upgraded(upgrade))
    assert "nova_metadata_port" in said
    assert "ovn-metadata-agent: NOT restarted" in said
    restarted = [words for words in systemctl(ran) if "try-restart" in words]
    assert restarted == [["try-restart", f"{FLEET}.service"]]


def test_upgrade_leaves_a_fleet_alone_that_would_not_start(
    installed: RpmHost, upgrade: Path
):
    installed.shell(f"echo 'what is this' >>{ETC}/privileged.conf")
    said, ran = installed.rpm("-U", *upgraded(upgrade))
    assert "ovn-metadata-fleet: NOT restarted" in said
    restarted = [words for words in systemctl(ran) if "try-restart" in words]
    # The agent reads that file too.
    assert restarted == []


def test_upgrade_without_systemd_asks_nobody(
    installed: RpmHost, upgrade: Path
):
    installed.run("rmdir", "/run/systemd/system")
    _, ran = installed.rpm("-U", *upgraded(upgrade))
    assert not [words for words in ran if "--check" in words]


def test_erasing_the_agent_leaves_the_fleet(installed: RpmHost):
    _, ran = installed.rpm("-e", AGENT)
    asked = systemctl(ran)
    agents = [f"{AGENT}.service", "ovn-metadata-privsep.socket"]
    assert ["--no-reload", "disable", "--now", *agents] in asked
    assert not [words for words in asked if f"{FLEET}.service" in words]
    installed.run("systemctl", "is-enabled", FLEET)
    installed.run("ovn-metadata-fleet", "--check")
    installed.run("test", "!", "-e", f"{UNITS}/{AGENT}.service")


def test_erasing_the_fleet_takes_all_off_the_host(installed: RpmHost):
    use_other_file(installed, "")
    _, ran = installed.rpm("-e", AGENT, FLEET)
    assert ["stop", f"{FLEET}.service"] in systemctl(ran)
    assert ["ovn-metadata-cleanup", "--config-file", "/other.conf"] in ran
    left = installed.shell(
        f"find /usr /etc -name '*ovn?metadata*' -not -path '{ROOT}/*'"
    )
    # What was changed by hand is kept, as everywhere.
    assert left.split() == ["/etc/sysconfig/ovn-metadata-agent.rpmsave"]


def test_erasing_all_cleans_up_by_what_the_agent_was_started_with(
    installed: RpmHost, released: Path
):
    """The compat package's drop-in is gone by then, and so is the unit."""
    installed.install(package(released, COMPAT))
    for name in (COMPAT, AGENT):
        installed.rpm("-e", name)
    _, ran = installed.rpm("-e", FLEET)
    (words,) = [words for words in ran if words[0] == "ovn-metadata-cleanup"]
    assert words[1:3] == [
        "--config-file",
        "/etc/neutron/neutron_ovn_metadata_agent.ini",
    ]
    installed.run("test", "!", "-e", "/var/lib/ovn-metadata-fleet")
