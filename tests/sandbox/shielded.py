"""Instances whose projects have different options of the shield.

The fixtures `shielded` and `vms` make them: one for each of PROJECTS.
"""

from __future__ import annotations

from ovn_metadata.agent.haproxy import tokens

from . import Instance, Sandbox, sockets, wait_for
from .agent import Options

OWN = "ovn_metadata_agent"
OPTIONS = {
    (OWN, "refuse_forwarded"): "off, project:report:report, "
    "project:enforce:enforce, project:both:enforce",
    (OWN, "tokens"): "off, project:optional:optional, "
    "project:required:required, project:both:required",
    (OWN, "hop_limit"): "64, project:near:1",
    (OWN, "boot_window"): "0",
}
OFF = {
    (OWN, "refuse_forwarded"): "off",
    (OWN, "tokens"): "off",
    (OWN, "hop_limit"): "64",
}
PROJECTS = ("off", "report", "enforce", "optional", "required", "both")
ID = "/latest/meta-data/instance-id"
DOCUMENT = "/openstack/latest/meta_data.json"
TOKEN_PATH = tokens.PATH
TTL, TOKEN = tokens.TTL_HEADER, tokens.HEADER


def new_token(vm: Instance, ttl: int = 60) -> str:
    """Return a token of VM, good for TTL seconds."""
    answer = vm.fetch(TOKEN_PATH, method="PUT", headers={TTL: str(ttl)})
    assert answer.status == 200
    return answer.text


def status(vm: Instance, path: str = ID, **headers: str) -> int:
    """Return the status of a request of VM with HEADERS."""
    return vm.fetch(path, headers=headers).status


def with_token(vm: Instance, token: str, path: str = ID) -> int:
    """Return the status of a request of VM that carries TOKEN."""
    return vm.fetch(path, headers={TOKEN: token}).status


def reconfigure(box: Sandbox, options: Options) -> None:
    """Reload BOX's agent with OPTIONS; return when each network has them."""
    before = sockets.visits()
    box.agent.configure(options)
    box.agent.reload_and_wait()

    def is_over() -> bool:
        now = sockets.visits()
        is_visited = all(now[key] > before[key] for key in now.keys() & before)
        return is_visited and sockets.status()["pace"] == "caught up"

    wait_for(is_over, timeout_s=120, what="a visit to each network")


def shares(vm: Instance) -> dict[str, int]:
    """Return what the status has of VM's network, once it has anything.

    The sums begin with the first look at a haproxy.
    """

    def found() -> dict[str, int]:
        told = sockets.status()["networks"]
        return dict(told[vm.port.network.id]["shares"])

    return wait_for(found, timeout_s=60, what="sums")
