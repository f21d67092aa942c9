"""What is installed is what is in the folders, under the right names."""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import pkgutil
import re
import stat
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("agent", "privsep")
MODULES = [
    ".".join(("ovn_metadata", *path.relative_to(ROOT).with_suffix("").parts))
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
)
SUDOERS = ROOT / "rootwrap/sudoers.d/ovn-metadata-agent"
SUDO_COMMAND = (
    "/etc/ovn-metadata-agent/rootwrap.conf privsep-helper "
    "--config-file /etc/ovn-metadata-agent/privileged.conf "
    "--privsep_context ovn_metadata.privsep.context.default "
    "--privsep_sock_path /tmp/tmpab_c1234/privsep.sock"
)


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_under_its_installed_name(name: str):
    module = importlib.import_module(name.removesuffix(".__init__"))
    relative = name.removeprefix("ovn_metadata.").replace(".", "/")
    file = Path(str(module.__file__))
    assert file.resolve().as_posix().endswith(f"/{relative}.py")


@pytest.mark.parametrize("name", ["agent", "privsep"])
def test_folder_is_no_package_of_its_own(name: str):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


@pytest.mark.parametrize("folder", sorted(set(PACKAGES)), ids=str)
def test_folder_with_modules_is_a_package(folder: Path):
    # find_packages() leaves out the others, and their modules with them.
    assert (ROOT / folder / "__init__.py").is_file()


@pytest.mark.parametrize("folder", FOLDERS)
def test_link_for_the_type_checkers_resolves(folder: str):
    link = ROOT / "tests/import_root/ovn_metadata" / folder
    assert link.is_symlink()
    assert link.resolve() == (ROOT / folder).resolve()
    assert (ROOT / folder / "py.typed").is_file()


def test_namespace_has_no_init():
    # A regular package there would hide the other half of the namespace.
    assert not (ROOT / "tests/import_root/ovn_metadata/__init__.py").exists()


def test_privsep_context_is_found_by_its_name():
    context = importlib.import_module("ovn_metadata.privsep.context")
    path = context.default.pypath
    assert path == "ovn_metadata.privsep.context.default"
    assert pkgutil.resolve_name(path) is context.default


@pytest.mark.parametrize(
    "script",
    [
        "agent-status",
        "ovn-metadata-agent",
        "ovn-metadata-cleanup",
        "ovn-metadata-fleet",
        "ovn-metadata-privsep",
        "ovn-metadata-rootwrap",
    ],
)
def test_script_leads_to_a_function(script: str):
    (entry,) = importlib.metadata.entry_points(
        group="console_scripts", name=script
    )
    assert callable(entry.load())


def test_every_data_file_exists():
    named = re.findall(
        r'"((?:etc|rootwrap)/[^"]+\.?[^"]*)"', (ROOT / "setup.py").read_text()
    )
    files = [name for name in named if name != "etc/ovn-metadata-agent"]
    shipped = {
        path.relative_to(ROOT).as_posix()
        for folder in ("etc", "rootwrap")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert set(files) == shipped


def sudo_expression() -> str:
    (rule,) = (
        line
        for line in SUDOERS.read_text().splitlines()
        if line.startswith("ovn-metadata ")
    )
    match = re.fullmatch(
        r"ovn-metadata ALL=\(root\) NOPASSWD: "
        r"/usr/bin/ovn-metadata-rootwrap (\^.*\$)",
        rule,
    )
    assert match is not None
    return match[1]


def test_sudo_lets_the_one_form_through():
    assert re.search(sudo_expression(), SUDO_COMMAND)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            SUDO_COMMAND.replace(
                "ovn_metadata.privsep.context.default", "os.system"
            ),
            id="another context",
        ),
        pytest.param(
            SUDO_COMMAND.replace("ovn_metadata.", "ovn_metadataX"),
            id="a context that differs in a dot",
        ),
        pytest.param(
            SUDO_COMMAND.replace(
                "--privsep_context", "--config-file /tmp/x --privsep_context"
            ),
            id="one more configuration file",
        ),
        pytest.param(
            SUDO_COMMAND.replace("privileged.conf", "../../tmp/x"),
            id="another configuration file",
        ),
        pytest.param(SUDO_COMMAND + " --debug", id="one more option"),
        pytest.param(
            SUDO_COMMAND.replace("tmpab_c1234", "tmpab c1234"),
            id="a blank in the socket's path",
        ),
        pytest.param(
            SUDO_COMMAND.replace("tmpab_c1234", "tmp..c1234"),
            id="dots in the socket's path",
        ),
        pytest.param(
            SUDO_COMMAND.replace("tmpab_c1234", "tmpab_c1234/.."),
            id="a folder up in the socket's path",
        ),
        pytest.param(
            SUDO_COMMAND.replace("privsep-helper", "sh -c id"),
            id="another command",
        ),
    ],
)
def test_sudo_refuses(command: str):
    assert not re.search(sudo_expression(), command)


def test_rootwrap_filter_is_the_form_that_sudo_lets_through():
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "rootwrap/metadata.filters")
    kind, program, user, *expressions = (
        part.strip() for part in parser["Filters"]["privsep"].split(", ")
    )
    assert (kind, program, user) == ("RegExpFilter", "privsep-helper", "root")
    arguments = SUDO_COMMAND.split()[1:]
    assert len(arguments) == len(expressions)
    for argument, expression in zip(arguments, expressions, strict=True):
        assert re.fullmatch(expression, argument)


def test_rootwrap_reads_its_configuration():
    wrapper = pytest.importorskip("oslo_rootwrap.wrapper")
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "rootwrap/rootwrap.conf")
    config = wrapper.RootwrapConfig(parser)
    assert config.filters_path == ["/etc/ovn-metadata-agent/rootwrap.d"]
    assert "/usr/bin" in config.exec_dirs
    assert not config.use_syslog


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(path, id=path.relative_to(ROOT).as_posix())
        for folder in ("etc", "rootwrap")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file()
    ],
)
def test_shipped_file_is_plain(file: Path):
    file.read_text(encoding="ascii")
    assert not file.stat().st_mode & (stat.S_IXUSR | stat.S_IWOTH)
