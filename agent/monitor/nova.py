"""The agent's own requests to Nova."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ..config.settings import Settings
from ..core import identity
from ..haproxy import limits, runtime
from ..haproxy.counters import NovaCounted
from ..haproxy.runtime import NovaAnswer

_SIGNED_PATH = "/latest/meta-data/instance-id"


@dataclasses.dataclass(slots=True)
class Nova:
    """Asks Nova through the gateway, on metadata_proxy_socket."""

    settings: Callable[[], Settings]
    # The gateway's counters; it raises OSError and HaproxyError.
    nova_counted: Callable[[], NovaCounted]
    is_ours: Callable[[Path], bool]  # whether a socket is the gateway's
    unresolved: Callable[[], list[str]]  # Nova's names without an address

    def ask(self, server: int) -> NovaAnswer | None:
        """Ask SERVER for Nova's root; None if nothing can be known.

        The socket is another agent's, or the gateway has ended.

        Nova lists its versions there, without looking for an instance or a
        signature, and logs nothing.
        """
        return self._ask("/", limits.AGENT, "none", server)

    def ask_signed(self, server: int) -> NovaAnswer | None:
        """Ask for an instance that does not exist; None as `ask` does.

        Nova looks at the signature first: 403 or 404.
        """
        signature = identity.signature(self.secret(), limits.NOBODY)
        return self._ask(_SIGNED_PATH, limits.NOBODY, signature, server)

    def _ask(
        self, path: str, who: str, signature: str, server: int
    ) -> NovaAnswer | None:
        gateway = self.settings().proxy_socket
        if not self.is_ours(gateway):
            return None
        answer = runtime.ask_nova(gateway, path, who, signature, server)
        # If Nova is silent, it takes its time, or the gateway answers.
        is_lost = answer.status == 0 and answer.took_s < runtime.NOVA_TIMEOUT_S
        return None if is_lost else answer

    def secret(self) -> str:
        """Return metadata_proxy_shared_secret."""
        return self.settings().shared_secret
