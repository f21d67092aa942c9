"""Keep the gateway, the haproxy between the networks' and Nova, up to date.

As in `network`, it does not matter which event caused the call, and a second
call changes nothing.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import ssl
from pathlib import Path

from ...privsep import names
from .. import unixsocket
from ..config.settings import Nova, NovaServer
from ..core.found import found
from ..errors import AgentError
from ..haproxy import files, render
from ..haproxy.render import Rendered, Tls
from .nova_addresses import NovaAddresses
from .site import Site

LOG = logging.getLogger(__name__)

# metadata_proxy_socket_mode, in octal.
MODES = {"user": "644", "group": "664", "all": "666"}


@dataclasses.dataclass(eq=False)
class Gateway:
    """The gateway's configuration, certificates, program and socket."""

    site: Site
    nova_addresses: NovaAddresses

    def __post_init__(self) -> None:
        self._places = self.site.haproxies.places
        self._digest = ""  # of the configuration that it was left with

    def ensure(self) -> bool:
        """Ensure the gateway runs with the settings in force.

        It runs as before until every name of Nova's is looked up, and if
        none has an address. If it never ran, it starts, and answers 503.
        Returns False if the public socket is not ours yet: call again soon.
        Raises AgentError and OSError; then the gateway runs as before.
        """
        settings = self.site.settings()
        mode, gid = public_access(
            settings.socket_mode, settings.proxy_gid, agent_gid=os.getegid()
        )
        self.site.haproxies.ensure_folders(names.GATEWAY)
        servers, complete = self._nova_servers(settings.nova)
        waits_for = "" if complete else "the look-up of nova_metadata_host"
        self.site.status.waits_for("nova addresses", waits_for)
        file = self._places.config(names.GATEWAY)
        if file.exists() and not (servers and complete):
            text = files.read(file)
            before = Rendered(text, render.digest_of(text))
            if before.digest:
                self.site.haproxies.ensure_gateway(before)
            else:  # edited, or of another user: the process may have ours
                self.site.privileged.ensure_program(names.GATEWAY)
            if complete:
                hosts = ", ".join(e.host for e in settings.nova.endpoints)
                raise AgentError(
                    f"nova_metadata_host {hosts} can't be looked up",
                    "OVNMD-502",
                )
            return True
        tls = self._ensure_certificates(settings.nova)
        files.write(self._places.confirmed, "")
        rendered = render.render_gateway(
            places=self._places,
            nova=servers,
            tls=tls,
            settings=settings,
            socket_mode=mode,
        )
        changes = self.site.haproxies.ensure_gateway(rendered)
        self._remove_certificates_but(tls)
        is_published = self._publish_socket(gid, settings.proxy_socket)
        self._report_served(rendered.digest, changes)
        return is_published

    def _report_served(self, digest: str, changes: list[str]) -> None:
        self.site.status.served(names.GATEWAY, digest=digest)
        was, self._digest = self._digest, digest
        broken = ", ".join(found(changes))
        if broken and was == digest:
            self.site.status.repaired(names.GATEWAY)
            self.site.meter.add("repairs_total")
            LOG.warning("network=gateway found: %s; set up again", broken)
        elif changes:
            LOG.info("gateway serves changes=%s", ",".join(changes))

    def _nova_servers(self, nova: Nova) -> tuple[list[NovaServer], bool]:
        """Return the servers of NOVA, and whether all names were looked up."""
        look_up = self.nova_addresses.addresses
        known = [(each, look_up(each.host)) for each in nova.endpoints]
        servers = {
            (address, endpoint.port): dataclasses.replace(
                endpoint, host=address
            )
            for endpoint, addresses in known
            for address in addresses or ()
        }
        complete = all(addresses is not None for _, addresses in known)
        return [*servers.values()], complete

    def _ensure_certificates(self, nova: Nova) -> Tls | None:
        """Copy certificates and key to where haproxy's user can read them."""
        if nova.protocol != "https":
            return None
        client = []
        if nova.client_cert is not None and nova.client_key is not None:
            client = [nova.client_cert, nova.client_key]  # in one file
        authority = [] if nova.insecure else [*nova.authorities]
        return Tls(
            insecure=nova.insecure,
            authority=self._ensure_pem("authority", authority),
            client=self._ensure_pem("client", client),
            store="" if nova.insecure or authority else _system_store(),
        )

    def _ensure_pem(self, kind: str, sources: list[Path]) -> Path | None:
        if not sources:
            return None
        # Comments in a PEM file may have any encoding.
        text = "".join(
            file.read_text("latin-1").rstrip("\n") + "\n" for file in sources
        )
        # Another text gets another name, so the configuration changes and
        # haproxy is reloaded.
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder = self._places.read_folder(names.GATEWAY)
        path = folder / f"nova-{kind}-{digest}.pem"
        files.write(path, text)
        return path

    def _remove_certificates_but(self, tls: Tls | None) -> None:
        folder = self._places.read_folder(names.GATEWAY)
        for other in folder.glob("nova-*.pem"):
            if tls is None or other not in (tls.authority, tls.client):
                other.unlink()

    def _publish_socket(self, gid: int, link: Path) -> bool:
        """Make LINK, metadata_proxy_socket, a link to the gateway's socket.

        It is a link because the fleet may not write to the folder in which
        Neutron has its socket. Returns whether that is done.
        """
        target = self._places.public_socket
        if not target.exists():  # somebody has removed it
            self.site.privileged.reload_program(names.GATEWAY)
            return False
        if target.lstat().st_gid != gid:
            self.site.privileged.share_socket(gid)
        if not self._may_take(link):
            return False
        try:
            link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            files.link(link, target)
        except OSError as error:
            raise AgentError(
                f"{link} (metadata_proxy_socket) can't be made as uid "
                f"{os.geteuid()}: {error.strerror}"
            ) from error
        return True

    def _may_take(self, name: Path) -> bool:
        """Return whether the socket NAME, Neutron's, is free for us.

        While a haproxy of Neutron's agent runs, it sends its requests to
        NAME without the instance's id. Neutron's agent can answer them if it
        still runs; without it they get 503, and the instance tries again.
        Our gateway would answer 404, which an instance takes as final.
        """
        reason = ""
        if not self._places.is_link_of_ours(name):
            if self.site.privileged.sweep():
                reason = "haproxies of an earlier agent have to end first"
            elif unixsocket.is_listening(name):
                reason = "another process listens; stop Neutron's agent"
        problem = f"{name} (metadata_proxy_socket): {reason}" if reason else ""
        if self.site.status.note("OVNMD-308", problem):
            LOG.info("not published: %s", problem)
        return not reason


def public_access(
    mode: str, proxy_gid: int | None, *, agent_gid: int
) -> tuple[str, int]:
    """Return the mode (octal, for haproxy) and the group of the public socket.

    MODE is metadata_proxy_socket_mode: one of MODES or "deduce". PROXY_GID is
    None if no group is configured; AGENT_GID is used then. As in Neutron,
    "deduce" is the strictest mode that admits both the agent and that group.

    The agent's user gets access by the group: haproxy creates the socket and
    owns it. It could not replace that of another user: it makes a hard link
    to the old one first, and fs.protected_hardlinks forbids that.
    """
    gid = agent_gid if proxy_gid is None else proxy_gid
    if mode == "deduce":
        mode = "group" if gid == agent_gid else "all"
    return MODES[mode], gid


def _system_store() -> str:
    """Return the system's certificate authorities: where, and as of when."""
    known = ssl.get_default_verify_paths()
    found = []
    for path in filter(None, (known.cafile, known.capath)):
        with contextlib.suppress(FileNotFoundError):  # it is being replaced
            found.append(f"{path} {Path(path).stat().st_mtime_ns}")
    return " ".join(found)
