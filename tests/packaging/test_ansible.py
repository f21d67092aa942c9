"""The role's variables are the agent's options, and Ansible takes it all.

Ansible is in a virtual environment of its own, which `make packaging` makes.
That it works is shown by `make ansible`, in a Debian that is booted.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_log._options import list_opts

from ovn_metadata.agent.config.settings import all_options

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
    "str": ("tcp:x:1", "root", "192.0.2.7:9755"),
}
NO_EXAMPLES = {"bool": "7", "int": "true"}


def read(name: str) -> Any:
    return yaml.safe_load((ROLE / name).read_text("utf-8"))


VARS = read("vars/main.yml")
SPEC = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
VARIABLES = [
    (section, name)
    for section, names in VARS[f"__{PREFIX}options"].items()
    for name in names
]


# How each option's text is taken, by section and name; oslo.log's too.
TAKE: dict[tuple[str, str], Callable[[str], object]] = {
    ("DEFAULT", option.dest): option.type
    for _, group in list_opts()
    for option in group
} | {(o.section, o.name): o.value for _, _, o in all_options()}
SECRETS = {option.name for _, _, option in all_options() if option.secret}


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
    take = TAKE[section, name]
    spec = SPEC[PREFIX + name]
    choices = spec.get("choices")
    kind = spec.get("elements", spec["type"])
    if choices:
        assert all(takes(take, text) for text in choices)
        assert not takes(take, "none of them")
    else:
        assert any(takes(take, text) for text in EXAMPLES[kind])
        assert kind not in NO_EXAMPLES or not takes(take, NO_EXAMPLES[kind])
    assert spec.get("no_log", False) == (name in SECRETS)


def takes(take: Callable[[str], object], text: str) -> bool:
    try:
        take(text)
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


def test_booleans_may_be_words():
    """`-e NAME=false` gives the word, and a word is true."""
    for file in (ROLE / "tasks").iterdir():
        text = " ".join(file.read_text("utf-8").split())
        for name in read("defaults/main.yml"):
            if SPEC[name]["type"] == "bool":
                # A module's argument may be a word.
                taken = text.replace(f'"{{{{ {name} }}}}"', "")
                assert not re.search(rf"\b{name}\b(?! \| bool)", taken), file


def test_readme_names_each_file_of_a_virtual_environment():
    """What is to be removed before the package is installed."""
    text = (ROLE / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^    cd /etc\n(?:    .*\n)*", text, re.M)
    words = block.split()
    host = (ROLE / "tasks/venv_host.yml").read_text("utf-8")
    for path in re.findall(r"dest: /etc/(\S+)", host):
        assert any(fnmatch.fnmatch(path, word) for word in words), path
    for name in ("rootwrap.conf", "rootwrap.d", "agent.conf.sample"):
        assert name in host
        assert name in words
    (linked,) = (
        task["loop"]
        for task in read("tasks/venv_host.yml")
        if "link" in str(task.get("ansible.builtin.file"))
    )
    assert {*linked} <= {*words}


def test_restarts_are_for_what_a_reload_leaves_alone():
    waiting = {option.name for _, _, option in all_options() if option.restart}
    assert waiting == {*VARS[f"__{PREFIX}restart_options"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="it changes owners: as root")
@pytest.mark.parametrize(
    "there", [("external",), ("external", "ovn-metadata-proxy")], ids=len
)
def test_rollback_gives_back_the_folders_that_are_there(tmp_path, there):
    """The agent removes Neutron's folder of configurations if it is empty."""
    (play,) = yaml.safe_load((PLAYS / "rollback.yml").read_text("utf-8"))
    (block,) = (
        task
        for task in play["tasks"]
        if task["name"] == "Give state_path back"
    )
    find = block["block"][0]["ansible.builtin.command"]["argv"]
    find[-1] = "root"  # has what is there, and nobody is Neutron
    for name in there:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    done = played(
        tmp_path,
        block,
        ovn_metadata_state_path=str(tmp_path),
        __ovn_metadata_neutron={"stdout": "User=nobody"},
    )
    assert done.returncode == 0, done.stdout
    assert {file.owner() for file in tmp_path.glob("*/*")} == {"nobody"}


def played(
    folder: Path, task: dict[str, Any], **values: object
) -> subprocess.CompletedProcess[str]:
    """Run TASK here, with a book in FOLDER and the variables VALUES."""
    book = folder / "book.yml"
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable, **values},
        "tasks": [task],
    }
    book.write_text(yaml.safe_dump([play]))
    return run("ansible-playbook", "-i", "localhost,", str(book))


@pytest.mark.parametrize(
    ("load", "unit", "is_right"),
    [
        ("loaded", "neutron-ovn-metadata-agent.service", True),
        ("not-found", "neutron-ovn-metadata-agent.service", False),
        # The compat package makes Neutron's name this agent's.
        ("loaded", "ovn-metadata-agent.service", False),
    ],
)
def test_rollback_needs_neutrons_own_unit(tmp_path, load, unit, is_right):
    (play,) = yaml.safe_load((PLAYS / "rollback.yml").read_text("utf-8"))
    (task,) = (t for t in play["tasks"] if t["name"].startswith("Refuse to"))
    seen = {"stdout_lines": [f"LoadState={load}", f"Id={unit}"]}
    done = played(
        tmp_path,
        task,
        ovn_metadata_neutron_unit="neutron-ovn-metadata-agent.service",
        __ovn_metadata_neutron=seen,
    )
    assert (done.returncode == 0) == is_right, done.stdout


@pytest.mark.parametrize("run_dir", ["/run/x.d", "/run/x.d/"])
def test_rollback_finds_the_haproxies_of_a_run_dir(tmp_path, run_dir):
    (play,) = yaml.safe_load((PLAYS / "rollback.yml").read_text("utf-8"))
    file = tmp_path / "pattern"
    done = played(
        tmp_path,
        {
            "ansible.builtin.copy": {
                "content": "{{ ovn_metadata_haproxies }}",
                "dest": str(file),
            }
        },
        **{**play["vars"], "ovn_metadata_run_dir": run_dir},
    )
    assert done.returncode == 0, done.stdout
    ours = "/usr/sbin/haproxy -db -C /run/x.d/work/gateway -f /run/x.d/c"
    pattern = file.read_text()
    assert re.search(pattern, ours)
    assert not re.search(pattern, ours.replace("x.d", "xyd"))
