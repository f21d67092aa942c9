"""The agent's own requests to Nova."""

from collections.abc import Callable
from pathlib import Path

from ..config.settings import Settings
from ..core import identity
from ..haproxy import limits, runtime
from ..haproxy.counters import NovaCounted
from ..haproxy.runtime import NovaAnswer

_SIGNED_PATH = "/latest/meta-data/instance-id"


class Nova:
    """Asks Nova through the gateway, on metadata_proxy_socket.

    COUNTED returns the gateway's counters, and raises OSError and
    HaproxyError; IS_OURS returns whether a socket is the gateway's; UNRESOLVED
    returns the names of Nova that have no address yet.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        counted: Callable[[], NovaCounted],
        is_ours: Callable[[Path], bool],
        unresolved: Callable[[], list[str]],
    ) -> None:
        self._settings = settings
        self._is_ours = is_ours
        self.nova_counted = counted
        self.unresolved = unresolved

    def ask(self) -> NovaAnswer | None:
        """Ask for Nova's root; None if the socket is another agent's.

        Nova lists its versions there, without looking for an instance or a
        signature, and logs nothing.
        """
        return self._ask("/", limits.AGENT, "none")

    def ask_signed(self) -> NovaAnswer | None:
        """Ask for an instance that does not exist; None as `ask` does.

        Nova looks at the signature first: 403 or 404.
        """
        signature = identity.signature(self.secret(), limits.NOBODY)
        return self._ask(_SIGNED_PATH, limits.NOBODY, signature)

    def _ask(self, path: str, who: str, signature: str) -> NovaAnswer | None:
        gateway = self._settings().proxy_socket
        if not self._is_ours(gateway):
            return None
        return runtime.ask_nova(gateway, path, who, signature)

    def secret(self) -> str:
        """Return metadata_proxy_shared_secret."""
        return self._settings().shared_secret
