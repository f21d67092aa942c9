"""What is done to an agent while instances boot; the agent is either one's.

An outage is a generator: it takes the agent away, yields for the ports to be
plugged, and brings the agent back in the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sandbox import Agent, Ovn, Sandbox, release
from sandbox.agent import SPARE
from sandbox.continuity import SIGCONT, SIGKILL, SIGSTOP, pause
from sandbox.peer import NeutronAgent
from sandbox.processes import send_signal

OURS, THEIRS = "ours", "neutron"
_BACK_S = 5.0


class Side:
    """An agent to take away: ours, or Neutron's."""

    def __init__(self, box: Sandbox, name: str, *, longest_s: float) -> None:
        self.box = box
        self.longest_s = longest_s  # an outage may take
        box.agent.options.update(SPARE)
        self.agents: list[Agent | NeutronAgent] = [
            box.agent
            if name == OURS
            else NeutronAgent(box.folder, box.ovn, box.nova)
        ]

    @property
    def agent(self) -> Agent | NeutronAgent:
        """The agent that runs, or is to run next."""
        return self.agents[0]

    def build_release(self) -> None:
        """Have another release of ours to upgrade to, and from."""
        if isinstance(self.agent, Agent):
            prefix = release.build(self.box.folder)
            options = self.agent.options
            newer = Agent(
                self.box.folder, self.box.nova, prefix=prefix, options=options
            )
            self.agents.append(newer)

    def change_release(self) -> None:
        """Have the other release be the next that runs, if there is one."""
        self.agents.reverse()

    def close(self) -> None:
        """End all of it."""
        for agent in self.agents:
            agent.close()


def none(side: Side) -> Iterator[None]:
    """Leave the agent alone."""
    yield


def stopped(side: Side) -> Iterator[None]:
    """Stop it, start it after 5 s."""
    side.agent.stop()
    with _lasting(_BACK_S):
        yield
    side.agent.start()


def killed(side: Side) -> Iterator[None]:
    """Kill it, start it after 5 s."""
    send_signal(side.agent.pid, SIGKILL)
    side.agent.stop()  # it is no more: this waits for that
    with _lasting(_BACK_S):
        yield
    side.agent.start()


def upgraded(side: Side) -> Iterator[None]:
    """Stop it and start another release."""
    side.agent.stop()
    yield
    side.change_release()
    side.agent.start()


def hangs(side: Side) -> Iterator[None]:
    """Have it stand still for as long as an outage may take."""
    pid = side.agent.pid
    send_signal(pid, SIGSTOP)
    with _lasting(side.longest_s):
        yield
    send_signal(pid, SIGCONT)


def southbound(side: Side) -> Iterator[None]:
    """Start it while there is no Southbound database, for 15 s at most."""
    side.agent.stop()
    yield  # ovn-controller needs the database to bind the ports
    if isinstance(side.agent, NeutronAgent):
        side.agent.forget_registration()
    side.box.ovn.stop("sb")
    with _lasting(min(15.0, side.longest_s)):
        side.agent.start()
    side.box.ovn.start("sb")
    _reconnect(side.box.ovn)


@contextlib.contextmanager
def outage(name: str, side: Side) -> Iterator[None]:
    """Take SIDE's agent away as NAME says; it is back, or starts, after."""
    acts = {
        act.__name__: act
        for act in (none, stopped, killed, upgraded, hangs, southbound)
    }
    with contextlib.contextmanager(acts[name])(side):
        yield


def _reconnect(ovn: Ovn) -> None:
    """Have ovn-controller connect at once to the Southbound database.

    By itself it tries after 8 s, the longest pause of its back-off; until
    then no agent could have a new network's metadata port connected. It does
    not wait where it is told another way to the database.
    """
    (member,) = ovn.southbound.members
    ways = (member.remote, f"unix:{member.socket}")
    key = "external_ids:ovn-remote"
    now = ovn.vsctl("get", "Open_vSwitch", ".", key).strip().strip('"')
    other = ways[now == ways[0]]
    ovn.vsctl("set", "Open_vSwitch", ".", f'{key}="{other}"')


@contextlib.contextmanager
def _lasting(seconds: float) -> Iterator[None]:
    """Take SECONDS, what is done meanwhile included."""
    end = time.monotonic() + seconds
    yield
    pause(max(0.0, end - time.monotonic()))
