"""An option with a value for all, and others for some projects or networks."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from .values import Value

T = TypeVar("T")
# A project's id is what Keystone's driver makes of it. It may be written with
# dashes, as a UUID is.
_ITEM = re.compile(
    r"(?:(?P<of>network:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"
    r"project:[A-Za-z0-9_-]{1,64})\s*:\s*)?(?P<value>[^:]*)"
)


@dataclasses.dataclass(frozen=True, slots=True)
class PerProject(Generic[T]):
    """The value for each network and project."""

    default: T
    networks: Mapping[str, T]
    projects: Mapping[str, T]

    def of(self, network: str, project: str) -> T:
        """Return the value for an instance of PROJECT on NETWORK.

        That of the network takes precedence.
        """
        value = self.projects.get(project.replace("-", ""), self.default)
        return self.networks.get(network, value)

    def on(self, network: str) -> set[T]:
        """Return the values that an instance on NETWORK may have."""
        if network in self.networks:
            return {self.networks[network]}
        return {self.default, *self.projects.values()}


OFF = PerProject("off", {}, {})


def per_project(value: Value) -> Value:
    """Return the kind that has what VALUE accepts, once for each."""

    def parse(text: str) -> PerProject[object]:
        found: dict[str, dict[str, object]]
        found = {"": {}, "network": {}, "project": {}}
        for item in text.split(","):
            match = _ITEM.fullmatch(item.strip())
            if match is None:
                raise ValueError
            kind, _, key = (match["of"] or "").partition(":")
            if kind == "project":
                key = key.replace("-", "")
            if key in found[kind]:
                raise ValueError
            found[kind][key] = value.parse(match["value"])
        return PerProject(found[""][""], found["network"], found["project"])

    allowed = (
        f"{value.allowed}; then, separated by commas, project:ID:VALUE or "
        f"network:ID:VALUE, each ID once"
    )
    return Value(parse, allowed)
