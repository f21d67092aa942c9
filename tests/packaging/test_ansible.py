"""The role's variables are the agent's options, and Ansible takes it all.

Ansible is in a virtual environment of its own, which `make packaging` makes.
That it works is shown by `make ansible`, in a Debian that is booted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg
from oslo_log._options import list_opts

from ovn_metadata.agent.config import options, reload
from ovn_metadata.agent.config.option_table import OPTIONS
from ovn_metadata.agent.errors import ConfigError

ROOT = Path(__file__).parents[2]
PLAYS = ROOT / "packaging/ansible"
ROLE = PLAYS / "roles/ovn_metadata_agent"
BOOKS = ("deploy.yml", "migrate.yml", "rollback.yml")
PREFIX = "ovn_metadata_agent_"
# Values of each type, as the file has them; and of none that is named here.
EXAMPLES = {
    "bool": ("true",),
    "int": ("7", "4"),
    "path": ("/srv/x",),
    "str": ("tcp:x:1", "root"),
}
NO_EXAMPLES = {"bool": "7", "int": "true"}
# To find one that an option takes and that is not its default.
CANDIDATES = (
    *("true", "false", "7", "/srv/x", "tcp:x:1", "https", "user", "exit"),
    *("DEBUG", "4,6", "root"),
)
# Options that go together.
PAIRS = (
    ("nova_client_cert", "nova_client_priv_key"),
    ("ovn_sb_certificate", "ovn_sb_private_key"),
)


def read(name: str) -> Any:
    return yaml.safe_load((ROLE / name).read_text("utf-8"))


VARS = read("vars/main.yml")
SPEC = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
VARIABLES = [
    (section, name)
    for section, names in VARS[f"__{PREFIX}options"].items()
    for name in names
]


def known(section: str) -> dict[str, cfg.Opt]:
    """Return the options of SECTION by name, oslo.log's among them."""
    found = list(OPTIONS.get(section, ()))
    if section == "DEFAULT":
        found += [option for _, group in list_opts() for option in group]
    return {option.dest: option for option in found}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = os.environ.get("OVN_METADATA_ANSIBLE")
    if not folder:
        pytest.skip("no OVN_METADATA_ANSIBLE: `make packaging` sets it")
    return subprocess.run(
        (f"{folder}/bin/{program}", *arguments),
        cwd=PLAYS,
        env=os.environ
        | {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_linted_by_the_production_profile():
    done = run("ansible-lint", "--nocolor")
    assert done.returncode == 0, done.stdout
    assert "Profile 'production' was required, and it passed" in done.stdout


def test_plays_are_read():
    done = run("ansible-playbook", "--syntax-check", *BOOKS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("section", "name"), VARIABLES)
def test_variable_is_an_option(section: str, name: str):
    option = known(section)[name]
    spec = SPEC[PREFIX + name]
    choices = spec.get("choices")
    kind = spec.get("elements", spec["type"])
    if choices:
        assert all(takes(option, text) for text in choices)
        assert not takes(option, "none of them")
    else:
        assert any(takes(option, text) for text in EXAMPLES[kind])
        assert kind not in NO_EXAMPLES or not takes(option, NO_EXAMPLES[kind])
    assert spec.get("no_log", False) == option.secret


def takes(option: cfg.Opt, text: str) -> bool:
    try:
        option.type(text)
    except ValueError:
        return False
    return True


def test_each_variable_is_specified_and_nothing_else():
    of_options = {PREFIX + name for _, name in VARIABLES}
    assert len(of_options) == len(VARIABLES), "two sections have one name"
    assert set(SPEC) == of_options | set(read("defaults/main.yml"))


def test_defaults_are_those_that_are_documented():
    defaults = read("defaults/main.yml")
    for name, spec in SPEC.items():
        if "default" in spec:
            assert defaults[name] == spec["default"], name


def test_readme_names_each_variable_of_the_role():
    text = (ROLE / "README.md").read_text("utf-8")
    for name in read("defaults/main.yml"):
        assert f"`{name}`" in text, name


def test_restarts_are_for_what_a_reload_leaves_alone(tmp_path: Path):
    waiting = {
        name
        for section, table in OPTIONS.items()
        for name in (option.dest for option in table)
        if waits_for_restart(tmp_path / "agent.conf", section, name)
    }
    assert waiting == {*VARS[f"__{PREFIX}restart_options"]}


def waits_for_restart(file: Path, section: str, name: str) -> bool:
    file.write_text("")
    _, old = options.load(["--config-file", str(file)], "x")
    for new in settings_with(file, section, name):
        if new != old:
            return bool(reload.after_reload(old, new)[1])
    return False


def settings_with(file: Path, section: str, name: str) -> Iterator[Any]:
    names = next((pair for pair in PAIRS if name in pair), (name,))
    for value in CANDIDATES:
        lines = (f"{each} = {value}" for each in names)
        file.write_text("\n".join((f"[{section}]", *lines, "")))
        try:
            yield options.load(["--config-file", str(file)], "x")[1]
        except ConfigError:
            continue
