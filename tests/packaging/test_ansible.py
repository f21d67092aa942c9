"""The role's variables are the agent's options, and Ansible takes it all.

Ansible is in a virtual environment of its own, which `make packaging` makes.
That it works is shown by `make ansible`, in a Debian that is booted.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
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
    for task in block["block"]:
        argv = task["ansible.builtin.command"]["argv"]
        if "find" in argv:
            argv[-1] = "root"  # has what is there, and nobody is Neutron
    for name in there:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    logs = tmp_path / "log"
    logs.mkdir()
    (logs / "neutron-ovn-metadata-agent.log").touch()
    (logs / "neutron-server.log").touch()
    done = played(
        tmp_path,
        block,
        ovn_metadata_state_path=str(tmp_path),
        ovn_metadata_neutron_logs=str(logs),
        __ovn_metadata_neutron={"stdout": "User=nobody"},
    )
    assert done.returncode == 0, done.stdout
    left = {f.name for f in tmp_path.glob("*/*") if f.owner() != "nobody"}
    assert left == {"neutron-server.log"}
    assert logs.owner() == "root"


def fake_setfacl(folder: Path) -> dict[str, str]:
    """Return an environment whose setfacl writes to FOLDER/asked."""
    program = folder / "bin/setfacl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{folder}/asked\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_rollback_takes_the_right_on_state_path_back(tmp_path):
    (play,) = yaml.safe_load((PLAYS / "rollback.yml").read_text("utf-8"))
    names = [task["name"] for task in play["tasks"]]
    first = names.index(
        "Look for the rule that gives the agent a right on state_path"
    )
    last = names.index("Let nothing give it again")
    tasks = play["tasks"][first : last + 1]
    right = tasks[1]["block"]
    right[:] = [t for t in right if "ansible.builtin.command" in t]
    files = [tmp_path / "rule", tmp_path / "drop-in"]
    for file in files:
        file.touch()
    values = {
        "ovn_metadata_state_path": "/srv/x",
        "ovn_metadata_state_rule": str(files[0]),
        "ovn_metadata_state_drop_in": str(files[1]),
    }
    block = {"block": tasks, "environment": fake_setfacl(tmp_path)}
    for _ in range(2):  # the second time there is nothing to do
        done = played(tmp_path, block, **values)
        assert done.returncode == 0, done.stdout
        assert not any(file.exists() for file in files)
    assert (tmp_path / "asked").read_text() == "-x u:ovn-metadata /srv/x\n"


OF_THE_RIGHT = (
    "Look for the rule of a state_path that was shared",
    "Find the owner of state_path",
    "Share state_path no more",
    "Take the right on an earlier state_path back",
    "Remove the rule of a state_path that was shared",
)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_right_is_taken_back_where_it_no_longer_applies(
    tmp_path, share, moved
):
    """The folder is that of the rule; blanks and % are part of its name."""
    old = tmp_path / "a b%n"
    new = tmp_path / "new" if moved else old
    for folder in {old, new}:
        folder.mkdir()
    rule, drop_in = tmp_path / "rule.conf", tmp_path / "drop-in"
    drop_in.touch()
    values = {
        **VARS,
        "__ovn_metadata_agent_state_acl": str(rule),
        "__ovn_metadata_agent_state_drop_in": str(drop_in),
        "__ovn_metadata_agent_user": "root" if os.geteuid() else "nobody",
        f"{PREFIX}share_state_path": share,
    }
    template = {
        "src": str(ROLE / "templates/state_path_acl.conf.j2"),
        "dest": str(rule),
    }
    done = played(
        tmp_path,
        {"ansible.builtin.template": template},
        **{**values, "__ovn_metadata_agent_state_path": str(old)},
    )
    assert done.returncode == 0, done.stdout
    if os.geteuid() == 0:
        subprocess.run(("systemd-tmpfiles", "--create", rule), check=True)
        assert "system.posix_acl_access" in os.listxattr(old)
    tasks = [
        task
        for name in ("configure", "main")
        for task in read(f"tasks/{name}.yml")
        if task["name"] in OF_THE_RIGHT
    ]
    done = played(
        tmp_path,
        {
            "block": [*inlined(tasks)],
            "environment": fake_setfacl(tmp_path),
        },
        **{**values, "__ovn_metadata_agent_state_path": str(new)},
    )
    assert done.returncode == 0, done.stdout
    asked = tmp_path / "asked"
    user = values["__ovn_metadata_agent_user"]
    expected = "" if share and not moved else f"-x u:{user} {old}\n"
    assert (asked.read_text() if asked.exists() else "") == expected
    assert rule.exists() == drop_in.exists() == share


def inlined(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield TASKS with those of the files that they take in.

    Without handlers, and without what installs a package.
    """
    for task in tasks:
        file = task.get(
            "ansible.builtin.import_tasks",
            task.get("ansible.builtin.include_tasks"),
        )
        if file:
            block = [*inlined(read(f"tasks/{file}"))]
            yield {"block": block, "when": task["when"]}
        elif "ansible.builtin.package" not in task:
            yield {k: v for k, v in task.items() if k != "notify"}


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


# A chown in whose way somebody comes: it prints what it would change.
LATE_CHOWN = """#!/bin/sh
mv "$STATE/external" "$STATE/away"
ln -s "$STATE/roots" "$STATE/external"
shift 2
realpath "$@"
"""


def test_what_root_gives_away_is_what_it_found(tmp_path):
    """Their owner can put a link to a folder of root's in place of theirs."""
    for folder in ("external", "roots"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shadow").touch()
    chown = tmp_path / "chown"
    chown.write_text(LATE_CHOWN)
    chown.chmod(0o755)
    (block,) = [t for t in read("tasks/share.yml") if "block" in t]
    (act,) = [t for t in block["block"] if "chown" in str(t)]
    more = re.search(r"(?s)\[.*\]", act["ansible.builtin.command"]["argv"])
    assert more
    words = more[0].replace(f"__{PREFIX}user", "'ovn-metadata'")
    find = [*VARS[f"__{PREFIX}find_theirs"], *ast.literal_eval(words)]
    owner = pwd.getpwuid(os.geteuid()).pw_name
    done = subprocess.run(
        [
            re.sub(r"{{.*state_path }}", str(tmp_path), word).replace(
                f"{{{{ __{PREFIX}state.stat.pw_name }}}}", owner
            )
            for word in find
        ],
        env={"PATH": f"{tmp_path}:{os.defpath}", "STATE": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert f"{tmp_path}/away/shadow" in done.stdout
    assert f"{tmp_path}/roots/shadow" not in done.stdout


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
