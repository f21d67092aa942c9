"""Functional tests run on a whole chassis: `make test` makes it for them.

`box` is a sandbox for many tests, its agent ready; a test adds networks and
ports of its own (`Case`) and breaks nothing. `own_box` is a sandbox for one
test, its agent not started, to break as it likes; `module_box` is one for a
module, its agent ready. There is only one at a time, as there is one host: a
new one ends the one before, so tests are sorted by what they need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import pytest

from sandbox import (
    Instance,
    Network,
    Port,
    Sandbox,
    Subnet,
    inside_sandbox,
    wait_for,
)

Options = Mapping[tuple[str, str], str]

LOG_TAIL_LINES = 40
FIGURES = "continuity"  # the property with a row of the table below
_HINT = (
    "functional tests need a sandbox: run `make test`, or "
    "PYTHONPATH=tests python -m sandbox.enter python -m pytest "
    "tests/functional"
)


_KINDS = ("box", "module_box", "own_box")


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
            box = getattr(item, "funcargs", {}).get(name)
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
        "| what is done | requests | failed | 503 | longest gap, s |"
    )
    terminalreporter.line("|---|---|---|---|---|")
    for what, asked, failed, refused, gap_s in rows:
        terminalreporter.line(
            f"| {what} | {asked} | {failed} | {refused} | {gap_s:.2f} |"
        )


@dataclasses.dataclass
class Case:
    """Networks and instances of one test, removed after it."""

    box: Sandbox
    networks: list[Network] = dataclasses.field(default_factory=list)

    def network(
        self, name: str = "n", *subnets: str | Subnet, gateway: bool = False
    ) -> Network:
        """Create a network; isolated with one IPv4 subnet unless told."""
        made = self.box.neutron.create_network(
            name, subnets=subnets or ("10.10.0.0/24",), gateway=gateway
        )
        self.networks.append(made)
        return made

    def instance(self, network: Network, name: str = "vm") -> Instance:
        """Create a port and plug it; return once it is served."""
        port = self.box.neutron.create_port(network, name=name)
        (instance,) = self.plug([port])
        return instance

    def plug(
        self, ports: Sequence[Port], *, dhcp: bool = False
    ) -> list[Instance]:
        """Plug PORTS; return once each is served."""
        made = self.box.plug(ports, dhcp=dhcp)
        for instance in made:
            wait_served(instance)
        return made

    def close(self) -> None:
        """Unplug and delete all of it, if the sandbox is still there."""
        box = self.box
        if not box.ovn.daemons["nb"].running:
            return
        ids = {network.id for network in self.networks}
        box.unplug(i for i in box.instances if i.port.network.id in ids)
        for network in self.networks:
            if network.id in box.neutron.networks:
                box.neutron.delete_network(network)


def wait_served(instance: Instance, *, timeout_s: float = 30.0) -> None:
    """Wait until INSTANCE gets its own instance id."""
    wanted = instance.instance_id

    def served() -> bool:
        answer = instance.fetch(timeout=2)
        return answer.status == 200 and answer.text == wanted

    wait_for(
        served, timeout_s=timeout_s, what=f"metadata of {instance.port.name}"
    )


class Host:
    """The one host that all sandboxes are on: one of them at a time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._shared: Sandbox | None = None

    def sandbox(
        self, options: Options | None = None, *, sb_members: int = 1
    ) -> Sandbox:
        """Start a sandbox with OPTIONS for its agent; end the one before."""
        self.clear()
        made = Sandbox(options=options, sb_members=sb_members)
        return self._stack.enter_context(made)

    def shared(self) -> Sandbox:
        """Return the sandbox for all tests that break nothing."""
        if self._shared is None:
            self._shared = _ready(self.sandbox())
        return self._shared

    def clear(self) -> None:
        """End the sandbox that there is."""
        self._shared = None
        self._stack.close()


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """Provide what sandboxes are made on; `clear` it to have none."""
    made = Host()
    yield made
    made.clear()


def _ready(box: Sandbox) -> Sandbox:
    box.agent.start()
    box.agent.wait_ready()
    return box


@pytest.fixture(scope="module")
def box(host: Host) -> Sandbox:
    """Provide the one for all tests that only add to it, its agent ready."""
    return host.shared()


@pytest.fixture(scope="module")
def module_box(host: Host) -> Sandbox:
    """Provide a sandbox for one module, its agent ready."""
    return _ready(host.sandbox())


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
