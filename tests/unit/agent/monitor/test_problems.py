"""Which problems are shown, since when, and with which code."""

from __future__ import annotations

import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from ovn_metadata.agent import errors
from ovn_metadata.agent.core.codes import KINDS
from ovn_metadata.agent.monitor.problems import FLAP_S, Problems, code_of
from ovn_metadata.privsep.errors import (
    DaemonError,
    FleetError,
    LinkError,
    NoRootError,
    PrivilegedError,
)

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "5c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
YOUNG = "OVNMD-302"  # shown after 5 s
AT_ONCE = "OVNMD-501"


class Machine:
    """Problems with clocks that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.problems = Problems(
            clock=lambda: self.now,
            wall_clock=lambda: 1e9 + self.now,
            name_of={NETWORK: "blue"}.get,  # type: ignore[arg-type]
        )
        self.note = self.problems.note

    def codes(self) -> list[str]:
        return [problem["code"] for problem in self.problems.shown()]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_problem_has_all_that_an_operator_needs(machine):
    assert machine.note("OVNMD-301", "it ends", about=NETWORK)
    (problem,) = machine.problems.shown()
    kind = KINDS["OVNMD-301"]
    assert problem["reason"] == "it ends"
    assert (problem["title"], problem["remedy"]) == (kind.title, kind.remedy)
    assert problem["link"].endswith("troubleshoot.md#ovnmd-301")
    assert (problem["network"], problem["network_name"]) == (NETWORK, "blue")
    assert problem["since"] == 1e9 + 100
    assert problem["severity"] == "error"
    assert not machine.note("OVNMD-301", "it ends", about=NETWORK)
    assert machine.note("OVNMD-301", "it hangs", about=NETWORK)
    assert not machine.note("OVNMD-301", "", about=NETWORK)
    assert machine.codes() == []


def test_a_young_one_is_not_shown(machine):
    after_s = KINDS[YOUNG].visible_after_s
    machine.note(YOUNG, "hangs")
    machine.now += after_s - 0.1
    assert machine.codes() == []
    machine.now += 0.1
    assert machine.codes() == [YOUNG]


def test_one_that_comes_again_keeps_its_since_and_is_not_new(machine):
    machine.note(AT_ONCE, "silent")
    machine.now += 60
    machine.note(AT_ONCE, "")
    assert machine.codes() == []
    machine.now += FLAP_S - 1
    assert not machine.note(AT_ONCE, "silent")
    assert machine.problems.shown()[0]["since"] == 1e9 + 100


def test_one_that_flaps_is_shown_without_a_gap(machine):
    for _ in range(5):
        machine.note(AT_ONCE, "silent")
        machine.now += 1
        machine.note(AT_ONCE, "")
        machine.now += 1
    assert machine.codes() == [AT_ONCE]
    machine.now += FLAP_S
    assert machine.codes() == []
    assert machine.note(AT_ONCE, "silent")
    assert machine.problems.shown()[0]["since"] == 1e9 + machine.now


@pytest.mark.parametrize(
    ("cause", "about", "shown"),
    [
        ("OVNMD-204", NETWORK, ["OVNMD-204"]),
        ("OVNMD-204", OTHER, ["OVNMD-204", "OVNMD-306"]),
        ("OVNMD-307", "gateway", ["OVNMD-307"]),
        ("OVNMD-401", "", ["OVNMD-401"]),
        ("OVNMD-401", OTHER, ["OVNMD-401"]),
        ("OVNMD-203", NETWORK, ["OVNMD-203", "OVNMD-306"]),
    ],
)
def test_a_consequence_is_not_shown_beside_its_cause(
    machine, cause, about, shown
):
    machine.note("OVNMD-306", "no answer", about=NETWORK)
    machine.note(cause, "x", about=about)
    machine.now += 60
    assert machine.codes() == shown


def test_a_cause_names_what_it_hides(machine):
    """Else nobody sees that the flows are gone, too."""
    machine.note("OVNMD-106", "it is dead")
    for network in (NETWORK, OTHER):
        machine.note("OVNMD-206", "no flows", about=network)
    machine.now += 60
    (problem,) = machine.problems.shown()
    assert (problem["code"], problem["explains"]) == (
        "OVNMD-106",
        ("OVNMD-206",),
    )
    for network in (NETWORK, OTHER):
        machine.note("OVNMD-206", "", about=network)
    (problem,) = machine.problems.shown()
    assert problem["explains"] == ()


def test_a_cause_that_is_not_shown_yet_hides_its_consequence(machine):
    """Or the words would change while nothing does."""
    machine.note("OVNMD-301", "no answer", about=NETWORK)
    machine.note(YOUNG, "hangs")
    assert machine.codes() == []


def test_a_young_cause_is_shown_if_what_it_hides_was(machine):
    """Or agent-status would be healthy while a network is not served."""
    machine.note("OVNMD-202", "EBUSY", about=NETWORK, cuts=True)
    machine.now += 60
    assert machine.codes() == ["OVNMD-202"]
    machine.note(YOUNG, "hangs")
    (problem,) = machine.problems.shown()
    assert (problem["code"], problem["severity"]) == (YOUNG, "error")
    machine.note(YOUNG, "")
    assert machine.codes() == ["OVNMD-202"]


def test_a_cause_is_not_older_than_what_is_not_shown(machine):
    machine.note("OVNMD-106", "no progress")  # shown after 10 s
    machine.now += 9
    machine.note("OVNMD-107", "no progress")  # shown after 5 s
    machine.now += 0.9
    assert machine.codes() == []
    machine.now += 0.1
    assert machine.codes() == ["OVNMD-107"]


def test_a_cause_cuts_the_service_if_what_follows_does(machine):
    machine.note(YOUNG, "hangs")
    machine.now += 60
    (problem,) = machine.problems.shown()
    assert not problem["cuts_service"]
    machine.note("OVNMD-301", "no answer", about=NETWORK)
    (problem,) = machine.problems.shown()
    assert (problem["code"], problem["severity"]) == (YOUNG, "error")


def test_networks_with_the_hosts_problem_are_one_line(machine):
    machine.note("OVNMD-403", "/run: full", about=OTHER)
    machine.now += 1
    machine.note("OVNMD-403", "/run/x: full", about=NETWORK)
    (problem,) = machine.problems.shown()
    assert (problem["about"], problem["since"]) == ("", 1e9 + 100)
    machine.note("OVNMD-403", "", about=OTHER)
    assert machine.codes() == ["OVNMD-403"]
    machine.note("OVNMD-403", "", about=NETWORK)
    assert machine.codes() == []


def test_of_the_hosts_problem_the_hosts_own_reason_is_shown(machine):
    machine.note("OVNMD-403", "a file of a network", about=NETWORK)
    machine.note("OVNMD-403", "the gateway's", about="gateway")
    machine.note("OVNMD-403", "the host's", about="this host")
    (problem,) = machine.problems.shown()
    assert problem["reason"] == "the host's"


def test_what_cuts_the_service_is_first(machine):
    machine.note("OVNMD-305", "i-1", about=NETWORK)
    machine.note("OVNMD-502", "nova.example")
    assert machine.codes() == ["OVNMD-502", "OVNMD-305"]


def test_what_has_gone_has_no_problem(machine):
    machine.note("OVNMD-305", "i-1", about=NETWORK)
    machine.note("OVNMD-305", "i-1", about=OTHER)
    machine.problems.forget(NETWORK)
    assert [each["about"] for each in machine.problems.shown()] == [OTHER]


def test_a_set_of_problems_is_replaced_as_a_whole(machine):
    code = "OVNMD-109"
    machine.problems.replace(code, {"a": "bad a", "b": "bad b"}, ["b"])
    found = {
        each["reason"]: each["severity"] for each in machine.problems.shown()
    }
    assert found == {"bad a": "error", "bad b": "warning"}
    machine.problems.replace(code, {"b": "worse b"}, [])
    found = {
        each["reason"]: each["severity"] for each in machine.problems.shown()
    }
    assert found == {"worse b": "error"}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AgentError("x", "OVNMD-110"), "OVNMD-110"),
        (errors.HaproxyError("x", "OVNMD-304"), "OVNMD-304"),
        (errors.HaproxyError("x"), "OVNMD-301"),
        (errors.AgentError("x"), "OVNMD-202"),
        (FleetError("x"), "OVNMD-302"),
        (DaemonError("x"), "OVNMD-401"),
        (NoRootError("x"), "OVNMD-401"),
        (LinkError("x"), "OVNMD-204"),
        (PrivilegedError("x"), "OVNMD-202"),
        (OSError(errno.ENOSPC, ""), "OVNMD-403"),
        (OSError(errno.EDQUOT, ""), "OVNMD-403"),
        (PermissionError(errno.EACCES, ""), "OVNMD-402"),
        (NetlinkError(errno.EPERM), "OVNMD-402"),
        (OSError(errno.EROFS, ""), "OVNMD-402"),
        (OSError(errno.EMFILE, ""), "OVNMD-404"),
        (OSError(errno.ENOBUFS, ""), "OVNMD-404"),
        (BlockingIOError(errno.EAGAIN, ""), "OVNMD-404"),
        (MemoryError(), "OVNMD-404"),
        (OSError(errno.ENODEV, ""), "OVNMD-202"),
        (KeyError(13), "OVNMD-202"),
        (
            caused(errors.AgentError("x"), OSError(errno.EACCES, "")),
            "OVNMD-402",
        ),
    ],
    ids=repr,
)
def test_the_code_of_an_exception(error, code):
    assert code_of(error, about=NETWORK) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HaproxyError("x"), "OVNMD-307"),
        (OSError(errno.ENODEV, ""), "OVNMD-307"),
        (errors.HaproxyError("x", "OVNMD-304"), "OVNMD-304"),
    ],
    ids=repr,
)
def test_the_code_of_an_exception_of_the_gateways(error, code):
    assert code_of(error, about="gateway") == code
