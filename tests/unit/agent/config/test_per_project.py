"""An option with other values for some projects and networks."""

import pytest

from ovn_metadata.agent.config.per_project import PerProject, per_project
from ovn_metadata.agent.config.values import choice

NETWORK = "7e1b4b0a-0000-4000-8000-00000000000a"
PROJECT = NETWORK.replace("-", "")
MODE = per_project(choice("off", "report", "enforce"))


@pytest.mark.parametrize(
    ("text", "default", "networks", "projects"),
    [
        ("off", "off", {}, {}),
        (" report ", "report", {}, {}),
        ("off, project:p:enforce", "off", {}, {"p": "enforce"}),
        ("project:p:enforce,off", "off", {}, {"p": "enforce"}),
        (f"off,network:{NETWORK} : report", "off", {NETWORK: "report"}, {}),
        (
            f"enforce, project:network:off, network:{NETWORK}:off, "
            f"project:{NETWORK}:report",
            "enforce",
            {NETWORK: "off"},
            {"network": "off", PROJECT: "report"},
        ),
    ],
)
def test_it_is_read(text, default, networks, projects):
    assert MODE(text) == PerProject(default, networks, projects)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "on", "OFF", "off,", ",off", "off,report", "off:off"),
        *("project:p:off", "off, project:p", "off, project:p:", "off project"),
        *("off, project::off", "off, project:p:on", "off, projects:p:off"),
        *("off, project:p:off, project:p:report", "off, project:a b:off"),
        *("off, project:p|q:off", 'off, project:p":off', "off, network:n:off"),
        f"off, network:{NETWORK.upper()}:off",
        f"off, network:{NETWORK}:off, network:{NETWORK}:report",
        f"off, project:{'p' * 65}:off",
        f"off, project:{NETWORK}:off, project:{PROJECT}:report",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="must be one of off, report, enfor"):
        MODE(text)


def test_a_network_takes_precedence_over_a_project():
    value = PerProject("off", {"n": "report"}, {"p": "enforce"})
    assert value.of("n", "p") == "report"
    assert value.of("m", "p") == "enforce"
    assert value.of("m", "q") == "off"
    value_of = PerProject("off", {}, {PROJECT: "report"}).of
    assert value_of("m", NETWORK) == value_of("m", PROJECT) == "report"
    assert value.on("n") == {"report"}
    assert value.on("m") == {"off", "enforce"}
