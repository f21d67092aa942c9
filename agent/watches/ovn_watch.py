"""Notice that ovn-controller or ovs-vswitchd makes no progress."""

import dataclasses
import logging
import time

from ...privsep.errors import PrivilegedError
from ..core import signs
from ..databases import Databases
from ..reconcile.site import Site
from ..threads import Poller

LOG = logging.getLogger(__name__)

_INTERVAL_S = 5.0


@dataclasses.dataclass(eq=False)
class OvnWatch(Poller):
    """Looks for signs of it, on a thread of its own."""

    site: Site
    databases: Databases

    def __post_init__(self) -> None:
        super().__init__("ovn-watch", _INTERVAL_S)
        self._since: dict[signs.Sign, float] = {}
        self._noted: set[tuple[str, str]] = set()
        self._tells_installed = False
        self._answered: set[str] = set()  # daemons that have answered once

    def poll(self) -> None:
        """Note the problems that there are, and that others are over."""
        words: dict[str, str] = {}
        try:
            words.update(self.site.privileged.daemons())
        except (OSError, PrivilegedError) as error:
            LOG.debug("OVN's daemons not asked: %s", error)
        for daemon, word in words.items():
            if word in ("answers", "lost"):
                self._answered.add(daemon)
            elif word == "unknown" and daemon in self._answered:
                words[daemon] = "stopped"
        chassis, vswitch = self.databases.rows()
        if vswitch is not None and vswitch.installed:
            self._tells_installed = True
        found = signs.signs(
            chassis, vswitch, words, tells_installed=self._tells_installed
        )
        now = time.monotonic()
        self._since = {sign: self._since.get(sign, now) for sign in found}
        problems = signs.problems(self._since, now=now)
        for code, about in self._noted - problems.keys():
            self.site.status.note(code, "", about=about)
        for (code, about), reason in problems.items():
            self.site.status.tell(code, reason, about=about)
        self._noted = set(problems)
