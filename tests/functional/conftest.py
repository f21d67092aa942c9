"""Functional tests run on a whole chassis: `make test` makes it for them.

`box` is a sandbox for many tests, its agent ready; a test adds networks and
ports of its own (`Case`) and breaks nothing. `own_box` is a sandbox for one
test, its agent not started, to break as it likes; `module_box` is one for a
module, its agent ready. There is only one at a time, as there is one host: a
new one ends the one before, so tests are sorted by what they need.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from sandbox import Instance, Sandbox, inside_sandbox, wait_for
from sandbox.case import Case, Host, ready
from sandbox.continuity import FIGURES
from sandbox.shielded import (
    DOCUMENT,
    OFF,
    OPTIONS,
    PROJECTS,
    reconfigure,
    status,
)

LOG_TAIL_LINES = 40
_HINT = (
    "functional tests need a sandbox: run `make test`, or "
    "PYTHONPATH=tests python -m sandbox.enter python -m pytest "
    "tests/functional"
)
_KINDS = ("box", "module_box", "own_box", "chassis")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here, saying why, unless we are in a sandbox."""
    ours = [item for item in items if "functional" in item.path.parts]
    if not inside_sandbox():
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=_HINT))
    ours.sort(key=_kind)
    items[:] = [item for item in items if item not in ours] + ours


def _kind(item: pytest.Item) -> int:
    """Return which sandbox ITEM uses, as a number to sort by.

    Those that take long come first: whoever works beside has more to do.
    """
    names = getattr(item, "fixturenames", ())
    order = ("own_box", "box", "host")  # both make use of `host`
    used = [name for name in order if name in names]
    return {"host": 0, "own_box": 1, "box": 2}[used[0]] if used else 3


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of the agent's log with a test that failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for name in _KINDS:
            given = getattr(item, "funcargs", {}).get(name)
            box = getattr(given, "box", given)
            if isinstance(box, Sandbox):
                lines = box.agent.log().splitlines()[-LOG_TAIL_LINES:]
                report.sections.append(
                    (f"agent's log ({name})", "\n".join(lines))
                )
                with contextlib.suppress(subprocess.SubprocessError, OSError):
                    said = box.agent.status().stdout
                    report.sections.append((f"agent-status ({name})", said))


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what requests came to, as `continuity.Measure` notes it."""
    rows = [
        row
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if getattr(report, "when", "") == "call"
        for name, row in report.user_properties
        if name == FIGURES
    ]
    if not rows:
        return
    terminalreporter.section("continuity")
    terminalreporter.line(
        "| what is done | requests | failed | 503 | longest gap, s "
        "| new instances | told 404, or refused |"
    )
    terminalreporter.line("|---|---|---|---|---|---|---|")
    for what, asked, failed, refused, gap_s, arrived, lost in rows:
        terminalreporter.line(
            f"| {what} | {asked} | {failed} | {refused} | {gap_s:.2f} "
            f"| {arrived} | {lost} |"
        )


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """Provide what sandboxes are made on; `clear` it to have none."""
    made = Host()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def box(host: Host) -> Sandbox:
    """Provide the one for all tests that only add to it, its agent ready."""
    return host.shared()


@pytest.fixture(scope="module")
def module_box(host: Host) -> Sandbox:
    """Provide a sandbox for one module, its agent ready."""
    return ready(host.sandbox())


@pytest.fixture
def own_box(host: Host) -> Iterator[Sandbox]:
    """Provide a sandbox for one test to break; its agent not started."""
    yield host.sandbox()
    host.clear()


@pytest.fixture
def case(box: Sandbox) -> Iterator[Case]:
    """Networks and instances in `box` for one test."""
    with contextlib.closing(Case(box)) as made:
        yield made


@pytest.fixture(scope="module")
def module_case(box: Sandbox) -> Iterator[Case]:
    """Networks and instances in `box` for one module."""
    with contextlib.closing(Case(box)) as made:
        yield made


@pytest.fixture(scope="module")
def shielded(box: Sandbox) -> Iterator[Sandbox]:
    """Provide `box` with the shield on for some projects."""
    reconfigure(box, OPTIONS)
    yield box
    reconfigure(box, OFF)


@pytest.fixture(scope="module")
def shielded_case(shielded: Sandbox) -> Iterator[Case]:
    """Networks and instances in `shielded` for one module."""
    with contextlib.closing(Case(shielded)) as made:
        yield made


@pytest.fixture(scope="module")
def vms(shielded_case: Case) -> dict[str, Instance]:
    """Return an instance of each of the shield's projects, on one network."""
    network = shielded_case.network("shielded", "10.10.0.0/24", "fd00:10::/64")
    create = shielded_case.box.neutron.create_port
    ports = [create(network, project_id=each) for each in PROJECTS]
    made = shielded_case.box.plug(ports)
    for vm in made:
        wait_for(
            lambda vm=vm: status(vm, DOCUMENT) == 200,
            timeout_s=60,
            what="metadata",
        )
    return dict(zip(PROJECTS, made, strict=True))
